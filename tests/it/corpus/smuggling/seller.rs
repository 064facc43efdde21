//! What a seller may answer. Origins as in `agent`.

/// Not an answer: the agent gets 502 `upstream_protocol`.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    ("9112 §6.3 two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.3 equal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §6.3 other lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello"),
    ("9110 §8.6 list", "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
    ("desync CL plus", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("9112 §6.1 gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §6.1 identity", "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello"),
    ("9112 §6.1 TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("9112 §2.2 LF ends the status line", "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §2.2 LF ends a field", "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §2.2 LF ends the head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello"),
    ("9112 §2.2 CR in a value", "HTTP/1.1 200 OK\r\nX: y\rContent-Length: 5\r\n\r\nhello"),
    ("9112 §5.2 obs-fold", "HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §5.1 blank before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello"),
    ("9110 §5.5 NUL in a value", "HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §4 version", "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §4 status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello"),
    ("9112 §4 an empty line first", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (
        "9110 §15.2 interim answer with a length",
        "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("9110 §15.2.2 101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello"),
    ("no HTTP", "ICY 200 OK\r\n\r\n"),
];

/// An answer whose body breaks off: the agent must not take it for a whole one.
pub(crate) const BROKEN: &[(&str, &str)] = &[
    ("chunk: LF behind the size", "2\nab\r\n0\r\n\r\n"),
    ("chunk: LF behind the data", "2\r\nab\n0\r\n\r\n"),
    ("chunk: LF in an extension", "2;\nxx\r\nab\r\n0\r\n\r\n"),
    ("chunk: no size", "\r\n0\r\n\r\n"),
    ("chunk: trailer with a fold", "0\r\nX: a\r\n b\r\n\r\n"),
];

/// Served as "status body"; then the connection may go on, or not: the seller said more than it was asked.
pub(crate) const SERVED: &[(&str, &str, &str, bool)] = &[
    ("9112 §6.2 length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 hello", true),
    (
        "9112 §7.1 chunked, padded size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\r\nX: y\r\n\r\n",
        "200 hello",
        true,
    ),
    ("9112 §4 no reason, no blank", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "200 hello", true),
    (
        "9110 §15.2 interim answers",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "200 hello",
        true,
    ),
    ("9110 §15.3.5 204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "204 ", true),
    ("9110 §15.4.5 304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 ", true),
    (
        "desync: a second answer behind the first",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "200 hello",
        false,
    ),
    (
        "desync: a second answer behind chunks",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "200 hello",
        false,
    ),
    ("desync: a body behind 204", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "204 ", false),
    ("desync: a body behind 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "304 ", false),
    ("an empty line behind the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\r\n", "200 hello", false),
];
