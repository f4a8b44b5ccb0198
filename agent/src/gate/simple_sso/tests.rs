//! A client's conversation with the server, as django-simple-sso 1.3 holds it.

use std::io::Write as _;

use serde_json::json;
use time::Duration;

use super::signed::SigningKey;
use super::*;

const PRIVATE_KEY: &str = "a-private-key-of-a-client";

struct World {
    server: Server,
    key: SigningKey,
    now: OffsetDateTime,
}

fn world() -> World {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{PRIVATE_KEY}").unwrap();
    let client = |public_key: &str| SsoClient {
        public_key: public_key.to_owned(),
        private_key_file: file.path().to_owned(),
        redirect: "https://app.example/client/".parse().unwrap(),
    };
    let server = Server::new(&[client("pub-1"), client("pub-2")]).unwrap().unwrap();
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    World { server, key: SigningKey::new(PRIVATE_KEY), now }
}

impl World {
    fn ask_token(&self, redirect_to: &str) -> Result<String, RequestRefused> {
        let signed = self.key.sign(&json!({ "redirect_to": redirect_to }).to_string(), self.now);
        let answer = self.server.request_token(Request { public_key: Some("pub-1"), signed: &signed }, self.now)?;
        let answer: Value = serde_json::from_str(self.key.open(&answer, self.now).unwrap()).unwrap();
        Ok(answer["request_token"].as_str().unwrap().to_owned())
    }

    fn authorize(&self, request_token: &str) -> Result<(String, String), TokenError> {
        let said = json!({"preferred_username": "alice@alpha", "email": "alice@alpha.example", "given_name": "Alice",
                          "family_name": "Archer", "groups": ["Ops"]});
        let session = Session::new("sub-1".to_owned(), &said, self.now).unwrap();
        let address = self.server.authorize(request_token, session, self.now)?;
        let token = address.query_pairs().find(|(name, _)| name == "access_token").unwrap().1.into_owned();
        let payload = URL_SAFE_NO_PAD.decode(self.key.open(&token, self.now).unwrap()).unwrap();
        Ok((address.to_string(), serde_json::from_slice(&payload).unwrap()))
    }

    fn verify(&self, public_key: &str, request: &Value) -> Result<Value, RequestRefused> {
        let signed = self.key.sign(&request.to_string(), self.now);
        let answer =
            self.server.verify(Request { public_key: Some(public_key), signed: &signed }, |_| false, self.now)?;
        Ok(serde_json::from_str(self.key.open(&answer, self.now).unwrap()).unwrap())
    }
}

#[test]
fn a_client_gets_a_user_who_is_never_staff() {
    let world = world();
    let token = world.ask_token("https://app.example/client/authenticate/?next=%2Fpage&access_token=forged").unwrap();
    world.server.visit(&token, world.now).unwrap();
    let (address, access_token) = world.authorize(&token).unwrap();
    assert!(address.starts_with("https://app.example/client/authenticate/?next=%2Fpage&access_token="), "{address}");
    assert!(!address.contains("forged"));
    let user = world.verify("pub-1", &json!({ "access_token": access_token })).unwrap();
    assert_eq!(
        user,
        json!({"username": "alice@alpha", "email": "alice@alpha.example", "first_name": "Alice", "last_name": "Archer",
               "is_staff": false, "is_superuser": false, "is_active": true})
    );
}

#[test]
fn groups_are_told_to_those_who_ask() {
    let world = world();
    let (_, access_token) = world.authorize(&world.ask_token("https://app.example/client/").unwrap()).unwrap();
    let asked = json!({ "access_token": access_token, "extra_data": ["groups", "password"] });
    assert_eq!(world.verify("pub-1", &asked).unwrap()["extra_data"], json!({"groups": ["Ops"]}));
}

#[test]
fn a_token_does_not_outlive_the_session_that_it_was_made_in() {
    let world = world();
    let (_, access_token) = world.authorize(&world.ask_token("https://app.example/client/").unwrap()).unwrap();
    let signed = world.key.sign(&json!({ "access_token": access_token }).to_string(), world.now);
    let request = Request { public_key: Some("pub-1"), signed: &signed };
    let refused = world.server.verify(request, |_| true, world.now).unwrap_err();
    assert!(refused.to_string().starts_with("The session of this token is over"), "{refused}");
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let world = world();
    let text = |refused: Result<Value, RequestRefused>| refused.unwrap_err().to_string();
    let (_, access_token) = world.authorize(&world.ask_token("https://app.example/client/").unwrap()).unwrap();
    let request = json!({ "access_token": access_token });
    assert!(text(world.verify("pub-2", &request)).starts_with("Token of another client"));
    world.verify("pub-1", &request).unwrap();
    assert!(text(world.verify("pub-1", &request)).starts_with("Token used already"), "replay");
    assert!(text(world.verify("pub-1", &json!({"access_token": "x"}))).starts_with("Token not found"));
    assert!(text(world.verify("pub-1", &json!({}))).starts_with("Failed to process the request"));
    assert!(text(world.verify("pub-3", &request)).starts_with("Invalid public key"));
    let refused = |signed: &str, now| {
        let request = Request { public_key: Some("pub-1"), signed };
        world.server.verify(request, |_| false, now).unwrap_err().to_string()
    };
    let signed = world.key.sign(&request.to_string(), world.now);
    assert!(refused(&signed, world.now + Duration::seconds(6)).starts_with("Signature expired"));
    assert!(refused(&signed, world.now - Duration::seconds(6)).starts_with("Signature from the future"));
    let forged = SigningKey::new("another-private-key").sign(&request.to_string(), world.now);
    assert!(refused(&forged, world.now).starts_with("Bad Signature"));
    let unnamed = world.server.verify(Request { public_key: None, signed: &signed }, |_| false, world.now);
    assert!(matches!(unnamed, Err(RequestRefused::NoPublicKey)));
}

#[test]
fn users_are_sent_to_no_other_site() {
    let world = world();
    for elsewhere in
        ["https://evil.example/client/", "http://app.example/client/", "/client/", "https://app.example/x/"]
    {
        let refused = world.ask_token(elsewhere).unwrap_err();
        assert!(refused.to_string().contains("https://app.example/client/"), "{refused}");
    }
}
