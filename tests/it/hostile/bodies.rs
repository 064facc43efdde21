//! The bodies of a 402: large, endless, dripping, compressed.

use super::*;

/// Runs `ask` and gives the memory it made the program take, in KiB.
fn growth(program: &Program, ask: impl FnOnce()) -> u64 {
    let before = program.memory_kib();
    ask();
    program.peak_kib().saturating_sub(before)
}

/// More than the limits of one challenge and its buffers; far less than the bodies.
const ROOM_KIB: u64 = 24 * 1024;

#[test]
fn a_402_of_a_hundred_megabytes_goes_back_untouched_in_bounded_memory() {
    const CHUNK: usize = 1 << 20;
    let seller = Seller::http(|call| {
        call.body();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", 100 * CHUNK));
        for n in 0..100 {
            call.raw(vec![n; CHUNK]);
        }
        Next::Keep
    });
    let program = Program::start(Setup::new());
    let grown = growth(&program, || {
        let got = program.get(&seller.url("/x"));
        assert_eq!((got.status, got.body.len()), (402, 100 * CHUNK));
        assert!(got.body.chunks(CHUNK).enumerate().all(|(n, c)| c.iter().all(|b| usize::from(*b) == n)));
    });
    assert!(grown < ROOM_KIB, "{grown} KiB");
    assert_eq!((seller.paid().len(), rows(&program).len()), (0, 0));
}

#[test]
fn an_endless_402_streams_until_the_agent_has_enough() {
    let sent = Arc::new(AtomicUsize::new(0));
    let (count, ended) = (sent.clone(), Arc::new(AtomicUsize::new(0)));
    let end = ended.clone();
    let seller = Seller::http(move |call| {
        call.body();
        call.raw("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
        while call.chunk([b' '; 1 << 16]) {
            count.fetch_add(1 << 16, Ordering::AcqRel);
        }
        end.store(1, Ordering::Release);
        Next::Close
    });
    let program = Program::start(Setup::new());
    let grown = growth(&program, || {
        let mut agent = program.agent();
        agent.send(Agent::request_bytes("GET", &seller.url("/x"), "", b""));
        assert_eq!(agent.head().unwrap().status(), 402);
        let mut read = 0;
        while read < 32 << 20 {
            read += agent.wire.some().unwrap().len();
        }
        drop(agent);
        eventually("the seller is cut off", || ended.load(Ordering::Acquire) == 1);
    });
    assert!(grown < ROOM_KIB, "{grown} KiB");
    assert_eq!(rows(&program).len(), 0);
}

#[test]
fn a_drip_fed_402_is_handed_on_after_the_deadline() {
    // A valid challenge, but slower than we wait for one.
    let body = Terms::v1(payee(), CENT).answer().1;
    let drip = body.clone();
    let seller = Seller::http(move |call| {
        call.body();
        call.raw(format!("HTTP/1.1 402 Payment Required\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", drip.len()));
        for byte in drip.as_bytes() {
            call.raw([*byte]);
            std::thread::sleep(Duration::from_millis(2));
        }
        Next::Keep
    });
    let program = Program::start(Setup::new().limits("challenge_time: 100ms"));
    let got = program.get(&seller.url("/x"));
    assert_eq!((got.status, got.text()), (402, body));
    assert!(!got.head.has("proxy-status"));
    assert_eq!((seller.paid().len(), rows(&program).len()), (0, 0));
}

/// 256 MiB of blanks, as few bytes.
fn gzip_bomb() -> Vec<u8> {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let blanks = vec![b' '; 1 << 20];
    (0..256).for_each(|_| bomb.write_all(&blanks).unwrap());
    bomb.finish().unwrap()
}

/// 64 MiB: a frame of run-length blocks with a window of 1 MiB (RFC 8878 §3.1.1).
fn zstd_bomb() -> Vec<u8> {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for n in 0..512_u32 {
        let header = u32::from(n == 511) | 1 << 1 | (128 * 1024) << 3;
        bomb.extend(&header.to_le_bytes()[..3]);
        bomb.push(b' ');
    }
    bomb
}

#[test]
fn a_compressed_bomb_goes_back_untouched_in_bounded_memory() {
    // 32 MiB of zeros by the reference brotli encoder.
    let brotli = hex!("cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfbbffcffffc33f0110870500baf77f");
    let program = Program::start(Setup::new().limits("challenge: 1MiB"));
    // The first look at each coding allocates its tables.
    for (coding, bomb) in [("gzip", gzip_bomb()), ("br", brotli.to_vec()), ("zstd", zstd_bomb())] {
        assert!(bomb.len() < 2 << 20, "{coding}: {}", bomb.len());
        let seller = Seller::http(fixed(format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n"), &bomb));
        let grown = growth(&program, || {
            let got = program.get(&seller.url("/x"));
            assert_eq!((got.status, sha256(&got.body), got.head.get("content-encoding")), (402, sha256(&bomb), Some(coding)));
        });
        assert!(grown < ROOM_KIB, "{coding}: {grown} KiB");
        assert_eq!(seller.paid().len(), 0);
    }
    assert_eq!(rows(&program).len(), 0);
}

#[test]
fn a_compressed_challenge_is_read() {
    let chain = Chain::new();
    let terms = Terms::v1(payee(), CENT);
    let (counted, packed) = (chain.clone(), {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(terms.answer().1.as_bytes()).unwrap();
        gzip.finish().unwrap()
    });
    let seller = Seller::http(move |call| {
        if call.head.has("x-payment") {
            return shop(&counted, terms.clone(), |_| Plan::ok("sold"))(call);
        }
        call.reply(402, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", &packed)
    });
    let program = Program::start(Setup::new());
    assert_eq!((program.get(&seller.url("/x")).status, chain.count()), (200, 1));
}
