//! `homeward-broker doctor`: what is wrong on the way to a broker, with something broken on that way.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use world::federation::free_port;
use world::process::run;
use world::programs::programs;
use world::{Federation, InstanceOptions};

#[expect(clippy::disallowed_methods, reason = "files of a test")]
fn configure(federation: &Federation, text: &str) {
    std::fs::write(&federation.config, text).unwrap();
}

/// What the doctor finds, and whether it is content.
async fn examined(federation: &Federation) -> (Value, bool) {
    let config = federation.config.to_string_lossy();
    let arguments = ["--config", &config, "doctor", "--output", "json"];
    let output = run(&programs().unwrap().broker, &arguments, None).await.unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (found, output.status.success())
}

/// What it finds about something.
fn about<'a>(found: &'a Value, what: &str) -> &'a Value {
    let all = found["findings"].as_array().unwrap();
    all.iter().find(|finding| finding["about"] == what).unwrap_or_else(|| panic!("nothing about {what}: {found}"))
}

/// A proxy that changes answers: of each it is told path and text.
async fn proxy(port: u16, broker: u16, change: fn(&str, String) -> String) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
                while !head.ends_with(b"\r\n\r\n") {
                    match near.read(&mut buffer).await {
                        Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
                        _ => return,
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let mut far = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
                let request = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
                far.write_all(request.as_bytes()).await.unwrap();
                let mut answer = Vec::new();
                far.read_to_end(&mut answer).await.unwrap();
                let answer = change(&path, String::from_utf8(answer).unwrap());
                drop(near.write_all(answer.as_bytes()).await);
            });
        }
    });
}

/// A broker behind such a proxy.
async fn behind(change: fn(&str, String) -> String) -> Federation {
    let mut federation = Federation::founded("").await.unwrap();
    let (text, public) = (std::fs::read_to_string(&federation.config).unwrap(), free_port().unwrap());
    let (_, rest) = text.split_once('\n').unwrap();
    configure(&federation, &format!("public_url = \"http://localhost:{public}\"\n{rest}"));
    federation.serve().await.unwrap();
    proxy(public, federation.listener("http").unwrap().port(), change).await;
    federation
}

#[tokio::test]
async fn a_broker_that_is_well_reached_is_well() {
    let federation = behind(|_, answer| answer).await;
    let (found, content) = examined(&federation).await;
    assert!(content && found["errors"] == 0, "{found}");
    for what in ["broker", "sealing", "agents", "name", "public_url", "keys", "cookies", "store", "agent_url"] {
        assert_eq!(about(&found, what)["verdict"], "ok", "{found}");
    }
    let table = federation.ops(&["doctor"]).await.unwrap();
    assert!(table.contains("All is well."), "{table}");
}

#[tokio::test]
async fn what_a_proxy_does_to_answers_is_found() {
    let cookies = behind(|_, answer| answer.replace("; Secure", "").replace("; secure", "")).await;
    let (found, content) = examined(&cookies).await;
    assert!(!content && about(&found, "cookies")["verdict"] == "error", "{found}");
    assert!(about(&found, "cookies")["remedy"].as_str().unwrap().contains("Set-Cookie"), "{found}");

    let stale =
        behind(|path, answer| if path == "/jwks" { answer.replace("\"kid\":\"", "\"kid\":\"old") } else { answer });
    let (found, _) = examined(&stale.await).await;
    assert_eq!(about(&found, "keys")["verdict"], "error", "{found}");

    let elsewhere =
        behind(|_, _| "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned());
    let (found, _) = examined(&elsewhere.await).await;
    let sentence = about(&found, "public_url")["sentence"].as_str().unwrap().to_owned();
    assert!(sentence.contains("something else answers") && sentence.contains("502"), "{found}");

    let other = behind(|_, answer| answer.replace("\"issuer\":\"http://localhost", "\"issuer\":\"http://otherhost"));
    let (found, _) = examined(&other.await).await;
    assert!(about(&found, "public_url")["sentence"].as_str().unwrap().contains("to the letter"), "{found}");
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_and_agents_that_are_away_are_found() {
    let mut federation = Federation::start().await.unwrap();
    let options = InstanceOptions { accounts: Vec::new(), relying_party: true, methods: Vec::new() };
    let mut beta = federation.instance("beta", options).await.unwrap();
    beta.agent.take().unwrap().stop().await.unwrap();
    let (found, content) = examined(&federation).await;
    assert!(content, "{found}");
    let agents = about(&found, "agents");
    assert!(agents["verdict"] == "warning" && agents["sentence"].as_str().unwrap().contains("beta"), "{found}");

    let text = std::fs::read_to_string(&federation.config).unwrap();
    let nobody = free_port().unwrap();
    let (http, grpc) = (federation.listener("http").unwrap().port(), federation.listener("grpc").unwrap().port());
    let text = text.replace(&format!("//localhost:{http}"), &format!("//localhost:{nobody}"));
    // Something that is no broker is at the agents' address.
    configure(&federation, &text.replace(&format!("//127.0.0.1:{grpc}"), &format!("//127.0.0.1:{http}")));
    federation.stop_broker().await.unwrap();
    federation.serve().await.unwrap();
    let (found, content) = examined(&federation).await;
    assert!(!content, "{found}");
    assert_eq!(about(&found, "port")["verdict"], "error", "{found}");
    assert_eq!(about(&found, "agent_url")["verdict"], "error", "{found}");

    federation.stop_broker().await.unwrap();
    let (found, content) = examined(&federation).await;
    assert!(!content && about(&found, "broker")["sentence"].as_str().unwrap().contains("no broker listens"), "{found}");
}
