//! The HTTP listener under strangers who do not speak HTTP as they should. The ids in comments are those of the threat
//! notes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use world::Federation;

/// Sends bytes as they are and reads what comes until the connection rests or ends. Says whether it was closed.
async fn raw(federation: &Federation, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(federation.listener("http").unwrap()).await.unwrap();
    // A server that has refused already may have closed before everything is sent.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_millis(700), stream.read(&mut buffer)).await {
            Err(_) => return (String::from_utf8_lossy(&answer).into_owned(), false),
            Ok(Ok(0) | Err(_)) => return (String::from_utf8_lossy(&answer).into_owned(), true),
            Ok(Ok(read)) => answer.extend_from_slice(&buffer[..read]),
        }
    }
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// H1: addresses come from the configuration, whatever a request calls the broker.
#[tokio::test]
async fn a_foreign_host_is_reflected_nowhere() {
    let federation = Federation::start().await.unwrap();
    let discovery = "/.well-known/openid-configuration";
    for request in [
        format!("GET {discovery} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!("GET http://evil.example{discovery} HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
        format!(
            "GET {discovery} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example\r\nForwarded: host=evil.example\r\n\r\n"
        ),
    ] {
        let (answer, _) = raw(&federation, request.as_bytes()).await;
        assert!(!answer.contains("evil"), "{answer}");
        assert!(status(&answer) >= 400 || answer.contains(&federation.issuer().unwrap()), "{answer}");
    }
    let (answer, _) =
        raw(&federation, format!("GET {discovery} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").as_bytes()).await;
    assert_eq!(status(&answer), 400, "{answer}");
}

/// H2, H3: what two programs could read in two ways is refused, and what is too much ends.
#[tokio::test]
async fn ambiguous_and_oversized_requests_are_refused_and_closed() {
    let federation = Federation::start().await.unwrap();
    let head = "POST /token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for (name, request) in [
        ("two lengths", format!("{head}Content-Length: 3\r\nContent-Length: 4\r\n\r\na=bc")),
        ("a length that is none", format!("{head}Content-Length: +3\r\n\r\na=b")),
        ("a folded header", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n".to_owned()),
        ("a space before the colon", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n".to_owned()),
        ("a NUL in a header", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n".to_owned()),
        ("no version", "GET /healthz\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
    ] {
        let (answer, closed) = raw(&federation, request.as_bytes()).await;
        assert!(matches!(status(&answer), 400 | 0), "{name}: {answer}");
        assert!(closed, "{name}: the connection goes on");
    }
    // Both a length and chunks: whoever stands before us may have believed the other one (RFC 9112 6.1).
    let both = format!(
        "{head}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let (answer, closed) = raw(&federation, both.as_bytes()).await;
    assert_eq!((status(&answer), closed, answer.matches("HTTP/1.1").count()), (400, true, 1), "{answer}");

    // A little more than the limit may have been read when it is looked at; much more never is.
    for (bytes, told) in [(60_000, 200), (66_000, 431), (200_000, 431)] {
        let header = "a".repeat(bytes);
        let (answer, _) =
            raw(&federation, format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {header}\r\n\r\n").as_bytes()).await;
        assert_eq!(status(&answer), told, "{bytes}: {answer}");
    }
    let (answer, _) =
        raw(&federation, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000)).as_bytes()).await;
    assert_eq!(status(&answer), 414, "{answer}");
    let (answer, _) =
        raw(&federation, format!("{head}Content-Length: 70000\r\n\r\n{}", "a".repeat(70_000)).as_bytes()).await;
    assert_eq!(status(&answer), 413, "{answer}");
}

/// H4: connections that say nothing, or one byte now and then, hold nobody up.
#[tokio::test]
async fn slow_strangers_do_not_slow_others() {
    let federation = Federation::start().await.unwrap();
    let address = federation.listener("http").unwrap();
    let mut slow = Vec::new();
    for n in 0..400 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
        }
        slow.push(stream);
    }
    let asked = Instant::now();
    let (answer, _) = raw(&federation, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
}
