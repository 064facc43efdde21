//! What an agent may send. `{U}` is the scheme and authority of an absolute-form target where there is no tunnel, `{A}` the
//! seller's authority. Each row says where it is from:
//!
//! * "9112 §x", "9110 §x": rules and examples of the RFCs.
//! * "desync": classes of J. Kettle, "HTTP Desync Attacks" (2019), "HTTP/2: The Sequel is Always Worse" (2021), "Browser-Powered
//!   Desync Attacks" (2022), "HTTP/1.1 Must Die" (2025), in the spellings of the `http-request-smuggler` permutations.
//! * "chunk": line ends and extensions of chunks, J. Kallus and B. Jackson, "TERM.EXT, EXT.TERM, TERM.SPILL, SPILL.TERM" (2025).

/// Refused with 400; nothing of it reaches the seller, and the connection closes.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    // Two lengths.
    ("desync CL.TE", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    (
        "desync TE.CL",
        "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
    ),
    ("desync CL.TE, GET", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.3 equal lengths", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (
        "9112 §6.3 other lengths",
        "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {A}\r\n\r\n",
    ),
    ("9110 §8.6 list", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 3, 3\r\n\r\nabc"),
    ("desync CL plus", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: +3\r\n\r\nabc"),
    ("desync CL minus", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: -1\r\n\r\nabc"),
    ("desync CL hex", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 0x3\r\n\r\nabc"),
    ("desync CL fraction", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 3.0\r\n\r\nabc"),
    ("desync CL two words", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 3 0\r\n\r\nabc"),
    ("desync CL empty", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length:\r\n\r\nabc"),
    ("desync CL overflow", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length: 18446744073709551619\r\n\r\nabc"),
    // TE.TE: spellings that one reader takes for chunked and another does not.
    ("desync TE xchunked", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("desync TE identity", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: identity\r\n\r\n"),
    ("desync TE chunked, identity", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("desync TE identity, chunked", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.1 gzip, chunked", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.1 chunked twice", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE comma", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE parameter", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    ("desync TE quoted", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("desync TE empty", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    ("desync TE dual", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
    (
        "desync TE same twice",
        "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("desync TE vertical tab", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
    ("desync TE form feed", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n"),
    ("desync TE NUL", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"),
    ("desync TE DEL", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: \x7fchunked\r\n\r\n0\r\n\r\n"),
    ("desync TE blank before the colon", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE tab before the colon", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE blank first", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE folded value", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE in a fold", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE behind LF", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE behind CR", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("desync TE behind CR CR LF", "POST {U}/ HTTP/1.1\r\nHost: {A}\r\nX: y\r\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.1 TE in HTTP/1.0", "POST {U}/ HTTP/1.0\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Lines and names.
    ("9112 §2.2 LF ends the request line", "GET {U}/ HTTP/1.1\nHost: {A}\r\n\r\n"),
    ("9112 §2.2 LF ends a field", "GET {U}/ HTTP/1.1\r\nHost: {A}\n\r\n"),
    ("9112 §2.2 LF ends the head", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\n\n"),
    ("9112 §2.2 CR in a value", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nX: a\rb\r\n\r\n"),
    ("9112 §2.2 CR ends a field", "GET {U}/ HTTP/1.1\r\nHost: {A}\rX: a\r\n\r\n"),
    ("9112 §2.2 blank behind the request line", "GET {U}/ HTTP/1.1\r\n Host: {A}\r\nHost: {A}\r\n\r\n"),
    ("9110 §5.5 NUL in a value", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nX: a\0b\r\n\r\n"),
    ("9112 §5.2 obs-fold", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nX: a\r\n b\r\n\r\n"),
    ("9112 §5.2 fold of blanks only", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nX: a\r\n \r\n\r\n"),
    ("9112 §5.1 blank before the colon", "GET {U}/ HTTP/1.1\r\nHost : {A}\r\n\r\n"),
    ("9112 §5.1 no name", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\n: x\r\n\r\n"),
    ("9112 §5.1 no colon", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length\r\n\r\n"),
    ("desync name in quotes", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\n\"Content-Length\": 3\r\n\r\n"),
    ("desync name with a bracket", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-Length[]: 3\r\n\r\n"),
    ("desync name beyond ASCII", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nContent-L\u{e9}ngth: 3\r\n\r\n"),
    // Request lines.
    ("9112 §3 no version", "GET {U}/\r\n\r\n"),
    ("9112 §3 no target", "GET HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("9112 §3 two blanks", "GET  {U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    // What the HTTP library would refuse by itself, without a word of ours.
    ("3986 §2 a target that is no URI", "GET {U}/a<b> HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("3986 §2 a grave accent in the target", "GET {U}/a`b HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("3986 §3.2 a target with two ports", "GET http://{A}:80/a HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("3986 §3.2 a target without a host", "GET http:///a HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("9112 §3 a blank in the target", "GET {U}/a b HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("9112 §3 a tab for a blank", "GET\t{U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("9112 §3 a blank behind the version", "GET {U}/ HTTP/1.1 \r\nHost: {A}\r\n\r\n"),
    ("9112 §2.3 version 1.2", "GET {U}/ HTTP/1.2\r\nHost: {A}\r\n\r\n"),
    ("9112 §2.3 version in small letters", "GET {U}/ http/1.1\r\nHost: {A}\r\n\r\n"),
    ("9110 §9.1 a method that is no token", "GE(T {U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("desync blank before the method", " GET {U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("desync LF before the method", "\nGET {U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("desync two empty lines first", "\r\n\r\nGET {U}/ HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    // Hosts.
    ("9112 §3.2 two hosts", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nHost: evil.example\r\n\r\n"),
    ("9112 §3.2 the same host twice", "GET {U}/ HTTP/1.1\r\nHost: {A}\r\nhost: {A}\r\n\r\n"),
];

/// Refused with 400 in the middle of a body that had begun; the seller never sees it whole, and the connection closes.
pub(crate) const BROKEN: &[(&str, &str)] = &[
    ("chunk: LF behind the size", "2\nab\r\n0\r\n\r\n"),
    ("chunk: CR behind the size", "2\rab\r\n0\r\n\r\n"),
    ("chunk: LF in an extension (TERM.EXT)", "2;\nxx\r\nab\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("chunk: CR in an extension", "2;a\rb\r\nab\r\n0\r\n\r\n"),
    ("chunk: NUL in an extension", "2;\0\r\nab\r\n0\r\n\r\n"),
    ("chunk: LF behind the data (TERM.SPILL)", "2\r\nab\n0\r\n\r\n"),
    ("chunk: nothing behind the data (SPILL.TERM)", "2\r\nab0\r\n\r\n"),
    ("chunk: two bytes that are no line end", "2\r\nabXX0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {A}\r\n\r\n"),
    ("chunk: the next size instead of a line end (CVE-2025-55315)", "2\r\nab20\r\n\r\n"),
    ("chunk: more data than said", "2\r\nabc\r\n0\r\n\r\n"),
    ("chunk: blank before the size", " 2\r\nab\r\n0\r\n\r\n"),
    ("chunk: blank behind the size", "2 \r\nab\r\n0\r\n\r\n"),
    ("chunk: size with 0x", "0x2\r\nab\r\n0\r\n\r\n"),
    ("chunk: size with a sign", "+2\r\nab\r\n0\r\n\r\n"),
    ("chunk: size with an underscore", "0_2\r\nab\r\n0\r\n\r\n"),
    ("chunk: size of 17 digits", "00000000000000002\r\nab\r\n0\r\n\r\n"),
    ("chunk: no size", "\r\nab\r\n0\r\n\r\n"),
    ("chunk: LF behind the last", "0\n\r\n"),
    ("chunk: LF ends the body", "0\r\n\n"),
    ("9112 §7.1.2 trailer without a name", "0\r\n: x\r\n\r\n"),
    ("9112 §7.1.2 trailer with a fold", "0\r\nX: a\r\n b\r\n\r\n"),
    ("9112 §7.1.2 trailer with LF", "0\r\nX: a\nY: b\r\n\r\n"),
    ("9112 §7.1.2 trailer with a blank before the colon", "0\r\nX : a\r\n\r\n"),
    ("9112 §7.1.2 trailer that is a request", "0\r\nGET /smuggled HTTP/1.1\r\nHost: {A}\r\n\r\n"),
];

/// Near misses: served, and exactly these requests reach the seller ("method target body").
pub(crate) const SERVED: &[(&str, &str, &[&str])] = &[
    ("9112 §2.1 plain", "GET {U}/a HTTP/1.1\r\nHost: {A}\r\n\r\n", &["GET /a "]),
    ("9112 §2.2 one empty line first", "\r\nGET {U}/a HTTP/1.1\r\nHost: {A}\r\n\r\n", &["GET /a "]),
    ("9112 §5 no blank, many blanks, tabs", "GET {U}/a HTTP/1.1\r\nHost:{A}\r\nX:\t \t y \t\r\nY:\r\n\r\n", &["GET /a "]),
    ("9110 §5.5 bytes beyond ASCII", "GET {U}/a HTTP/1.1\r\nHost: {A}\r\nX: \u{e9}\u{4e2d}\r\n\r\n", &["GET /a "]),
    ("9112 §6.2 length", "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nContent-Length: 5\r\n\r\nhello", &["POST /a hello"]),
    ("9110 §8.6 leading zeros", "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nContent-Length: 005\r\n\r\nhello", &["POST /a hello"]),
    (
        "9112 §7.1 chunked",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["POST /a hello"],
    ),
    (
        "9112 §7 CHUNKED",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\ntransfer-encoding:  CHUNKED\t\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["POST /a hello"],
    ),
    (
        "9112 §7.1.1 extensions",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n0005;a=\"b;c\";d\r\nhello\r\n0;z\r\n\r\n",
        &["POST /a hello"],
    ),
    (
        "9112 §7.1 line ends as data",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0\r\n\r\n\n\r\rx \r\n0\r\n\r\n",
        &["POST /a 0\r\n\r\n\n\r\rx "],
    ),
    (
        "9112 §7.1.2 trailers",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        &["POST /a hello"],
    ),
    (
        "a framing field in the trailers goes nowhere",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTrailer: Content-Length, Host\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 40\r\nHost: evil.example\r\n\r\n",
        &["POST /a hello"],
    ),
    (
        "desync CL.0: what looks like a request is a body",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nContent-Length: 24\r\n\r\nGET /smuggled HTTP/1.1\r\n",
        &["POST /a GET /smuggled HTTP/1.1\r\n"],
    ),
    ("desync 0.CL: GET with a body", "GET {U}/a HTTP/1.1\r\nHost: {A}\r\nContent-Length: 5\r\n\r\nGET /", &["GET /a GET /"]),
    (
        "9110 §9.3.1 GET with chunks",
        "GET {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["GET /a hello"],
    ),
    (
        "desync CL.0 with Connection: Content-Length",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nConnection: content-length, keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        &["POST /a hello"],
    ),
    (
        "desync Connection: Transfer-Encoding",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        &["POST /a hello"],
    ),
    ("desync Connection: Host", "GET {U}/a HTTP/1.1\r\nHost: {A}\r\nConnection: host\r\n\r\n", &["GET /a "]),
    ("desync Expect", "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nExpect: y 100-continue\r\nContent-Length: 5\r\n\r\nhello", &["POST /a hello"]),
    (
        "names that only resemble",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\nContentLength: 0\r\n\r\nhello",
        &["POST /a hello"],
    ),
    (
        "9112 §9.3.2 pipelined",
        "POST {U}/a HTTP/1.1\r\nHost: {A}\r\nContent-Length: 2\r\n\r\nabGET {U}/b HTTP/1.1\r\nHost: {A}\r\n\r\nPOST {U}/c HTTP/1.1\r\nHost: {A}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\r\nGET {U}/d HTTP/1.1\r\nHost: {A}\r\n\r\n",
        &["POST /a ab", "GET /b ", "POST /c x", "GET /d "],
    ),
    ("9110 §9.1 another method", "M-SEARCH {U}/a HTTP/1.1\r\nHost: {A}\r\n\r\n", &["M-SEARCH /a "]),
    (
        "a long target",
        "GET {U}/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?%0d%0aHost:%20evil HTTP/1.1\r\nHost: {A}\r\n\r\n",
        &["GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?%0d%0aHost:%20evil "],
    ),
];
