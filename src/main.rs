//! stub
fn main() {
    let p = std::env::args().skip_while(|a| a != "--config").nth(1).unwrap();
    let config = tollpass::config::Config::load(std::path::Path::new(&p)).unwrap_or_else(|e| { eprintln!("{e:?}"); std::process::exit(2) });
    let _ = tollpass::telemetry::init(tollpass::telemetry::LogFormat::Text, None);
    if let Err(e) = tollpass::app::serve(config, tollpass::app::ServeOptions { json: true, accept_clock: false }) { eprintln!("{e:?}"); std::process::exit(1) }
}
