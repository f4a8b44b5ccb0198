//! What is spoken on a connection without TLS, by its first bytes.

use std::io::{self, Cursor};

use bytes::BufMut as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;

use crate::web::listener::Version;

/// What a connection begins with that speaks HTTP/2 (RFC 9113 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Waits for as many bytes as it takes to tell; in what comes back nothing has been read yet.
pub(super) async fn heard(
    mut stream: TcpStream,
) -> io::Result<(impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Version)> {
    let mut first = Vec::with_capacity(PREFACE.len());
    let version = loop {
        let missing = match PREFACE.strip_prefix(first.as_slice()) {
            None => break Version::Http1,
            Some([]) => break Version::Http2,
            Some(missing) => missing.len(),
        };
        // Who has hung up says no more.
        if stream.read_buf(&mut (&mut first).limit(missing)).await? == 0 {
            break Version::Http1;
        }
    };
    let (reading, writing) = stream.into_split();
    Ok((tokio::io::join(Cursor::new(first).chain(reading), writing), version))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_say_what_is_spoken_and_are_read_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (first, then, http2) in [
            (&b"GET / HTTP/1.1"[..], &b""[..], false),
            (b"P", b"OST / HTTP/1.1", false),
            (b"PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n", true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x04\0\0\0\0\0", true),
            (b"PRI", b"", false),
            (b"", b"", false),
        ] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            client.write_all(first).await.unwrap();
            let heard = tokio::spawn(heard(stream));
            tokio::time::sleep(Duration::from_millis(15)).await;
            client.write_all(then).await.unwrap();
            client.shutdown().await.unwrap();
            let (mut stream, version) = heard.await.unwrap().unwrap();
            assert_eq!(matches!(version, Version::Http2), http2, "{first:?}");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [first, then].concat());
            stream.write_all(b"answer").await.unwrap();
            drop(stream);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"answer");
        }
    }
}
