//! Keys of clients: fetched, kept, fetched again.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::server::Server;
use super::{NOW, client};
use crate::clock::Timestamp;
use crate::outbound::ClientKeySets;
use crate::registry::tests::World;
use crate::registry::{ClientKeys, RelyingParty};
use std::time::Duration;

fn jwk(kid: &str) -> Value {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
}

fn set(kids: &[&str]) -> Value {
    json!({"keys": kids.iter().map(|kid| jwk(kid)).collect::<Vec<_>>()})
}

fn answer(set: &Value) -> String {
    let set = set.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len())
}

async fn party(world: &World, keys: ClientKeys) -> RelyingParty {
    world.enrol("beta").await;
    let snapshot = world.registry.snapshot();
    let mut party = snapshot.instance(&"beta".parse().unwrap()).unwrap().relying_party.clone().unwrap();
    party.keys = Some(keys);
    party
}

struct Client {
    server: Server,
    party: RelyingParty,
    keys: ClientKeySets,
}

impl Client {
    async fn with(kids: &[&str]) -> Self {
        let (world, server) = (World::new().await, Server::answering(answer(&set(kids)).leak()).await);
        let party = party(&world, ClientKeys::Address(server.address())).await;
        let keys = ClientKeySets::new(client(&world, &["127.0.0.0/8"]).await);
        Self { server, party, keys }
    }

    async fn find(&self, kid: &str, after: u64) -> usize {
        let now: Timestamp = NOW + Duration::from_secs(after);
        self.keys.verifying_keys(&self.party, Some(kid), Algorithm::ES256, now).await.len()
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_kept_for_minutes() {
    let client = Client::with(&["1"]).await;
    let (first, second) = tokio::join!(client.find("1", 0), client.find("1", 0));
    assert_eq!((first, second, client.server.visits()), (1, 1, 1));
    assert_eq!((client.find("1", 299).await, client.server.visits()), (1, 1));
    assert_eq!((client.find("1", 300).await, client.server.visits()), (1, 2));
    assert_eq!(client.keys.verifying_keys(&client.party, Some("1"), Algorithm::RS256, NOW).await.len(), 0);
}

// oidcc-refresh-token-rp-key-rotation
#[tokio::test]
async fn a_new_key_is_found_at_once_and_strangers_cause_one_fetch_a_minute() {
    let client = Client::with(&["1"]).await;
    assert_eq!(client.find("1", 0).await, 1);
    client.server.change(answer(&set(&["1", "2"])));
    assert_eq!((client.find("2", 1).await, client.server.visits()), (1, 2));
    for hostile in ["x", "", "../../etc/passwd", "https://evil.example/", "3"] {
        assert_eq!(client.find(hostile, 60).await, 0);
    }
    assert_eq!(client.server.visits(), 2);
    client.server.change(answer(&set(&["3"])));
    assert_eq!((client.find("3", 61).await, client.server.visits()), (1, 3));
    assert_eq!(client.find("1", 62).await, 0);
    assert_eq!(client.server.visits(), 3);
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_for_a_while() {
    let client = Client::with(&["1"]).await;
    client.server.change("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    for (after, visits) in [(0, 1), (9, 1), (10, 2), (19, 2)] {
        assert_eq!((client.find("1", after).await, client.server.visits()), (0, visits), "{after}");
    }
}

#[tokio::test]
async fn known_keys_stay_for_a_day_while_the_client_does_not_answer() {
    let client = Client::with(&["1"]).await;
    assert_eq!(client.find("1", 0).await, 1);
    client.server.change("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_owned());
    assert_eq!(client.find("1", 600).await, 1);
    client.server.change(answer(&json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]})));
    assert_eq!(client.find("1", 1200).await, 1);
    assert_eq!(client.find("1", 86_399).await, 1);
    assert_eq!(client.find("1", 86_500).await, 0);
    client.server.change(answer(&set(&["1"])));
    assert_eq!(client.find("1", 86_600).await, 1);
}

#[tokio::test]
async fn another_address_and_a_changed_client_begin_anew() {
    let mut client = Client::with(&["1"]).await;
    assert_eq!(client.find("1", 0).await, 1);
    client.keys.forget(&client.party.client_id);
    assert_eq!((client.find("1", 1).await, client.server.visits()), (1, 2));
    let other = Server::answering(answer(&set(&["2"])).leak()).await;
    client.party.keys = Some(ClientKeys::Address(other.address()));
    assert_eq!((client.find("1", 2).await, client.find("2", 2).await), (0, 1));
}

#[tokio::test]
async fn registered_keys_are_read_without_asking_anybody() {
    let world = World::new().await;
    let party = party(&world, ClientKeys::Inline(set(&["1", "2"]))).await;
    let keys = ClientKeySets::new(client(&world, &[]).await);
    for (kid, alg, expected) in [
        (Some("1"), Algorithm::ES256, 1),
        (Some("3"), Algorithm::ES256, 0),
        (None, Algorithm::ES256, 2),
        (Some("1"), Algorithm::EdDSA, 0),
        (Some("1"), Algorithm::HS256, 0),
    ] {
        assert_eq!(keys.verifying_keys(&party, kid, alg, NOW).await.len(), expected, "{kid:?} {alg:?}");
    }
}
