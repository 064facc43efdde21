//! Plain reqwest: the proxy and the CA come from the environment alone. The lines are those of jobs.mjs.

use base64::prelude::{Engine, BASE64_STANDARD};
use std::error::Error;

async fn exchange(client: &reqwest::Client, number: usize, kind: &str, url: &str, file: &str) -> Result<(), Box<dyn Error>> {
    let request = match kind {
        "post" => client.post(url).header("content-type", "application/octet-stream").body(std::fs::read(file)?),
        _ => client.get(url),
    };
    let mut response = request.send().await?;
    let status = response.status().as_u16();
    let mut all = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if all.is_empty() && kind == "stream" {
            println!("first {number}");
        }
        all.extend_from_slice(&chunk);
    }
    println!("done {number} {status} {}", BASE64_STANDARD.encode(all));
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "a provider is installed already")?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (file, rest) = args.split_first().ok_or("usage: peer-reqwest BODY_FILE [KIND URL]...")?;
    let client = reqwest::Client::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (number, job) in rest.chunks_exact(2).enumerate() {
        if let Err(error) = runtime.block_on(exchange(&client, number, &job[0], &job[1], file)) {
            println!("fail {number} {}", format!("{error:?}").replace('\n', " "));
        }
    }
    Ok(())
}
