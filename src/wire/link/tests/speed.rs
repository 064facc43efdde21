use super::*;
fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore]
async fn speed() {
    let office = Office::open().await;
    let client = office.client();
    for size in [100usize, 32 << 10] {
        let payload = vec![1u8; size];
        for _ in 0..200 {
            client.call(path::BEGIN, 1, &payload, soon()).await.unwrap();
        }
        let mut t = Vec::new();
        let c = cpu();
        for _ in 0..2000 {
            let s = Instant::now();
            client.call(path::BEGIN, 1, &payload, soon()).await.unwrap();
            t.push(s.elapsed());
        }
        let c = cpu() - c;
        t.sort();
        println!("payload {size}: p50 {:?} p99 {:?} max {:?}; cpu both ends per call {:?}", t[1000], t[1980], t[1999], c / 2000);
    }
    let c = cpu();
    let s = Instant::now();
    for _ in 0..200 {
        office.client().warm(soon()).await.unwrap();
    }
    println!("handshake incl tcp+h2+alive: {:?} wall, {:?} cpu both ends", s.elapsed() / 200, (cpu() - c) / 200);
}
