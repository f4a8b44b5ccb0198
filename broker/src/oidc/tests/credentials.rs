//! Client credentials that turn, and the probes that show which of them an application uses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use homeward_certs::identity::InstanceName;
use secrecy::ExposeSecret as _;

use crate::grants::{ProbeCode, ProbeError, ProbeOutcome, Probes};
use crate::oidc::tests::world::{Browser, VERIFIER, World};
use crate::registry::{ClientAuthMethod, ClientCredential, ClientSecret};

const FORM: &str = "grant_type=authorization_code&redirect_uri=x&code=x";

impl World {
    fn probes(&self) -> Probes {
        Probes::new(self.store.clone())
    }

    async fn probe(&self, name: &str) -> String {
        let created = self.probes().create(&name.parse().unwrap(), self.time.now()).await.unwrap();
        created.code.expose_secret().to_owned()
    }

    async fn outcome(&self, name: &str, code: &str) -> Result<ProbeOutcome, ProbeError> {
        let name: InstanceName = name.parse().unwrap();
        self.probes().outcome(&name, &ProbeCode::of(code).unwrap(), self.time.now()).await
    }

    /// Presents a code as beta's application would, with this secret.
    async fn present(&self, secret: &str, code: &str) -> (u16, String) {
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{secret}", self.client_id("beta"))));
        let form = format!("grant_type=authorization_code&redirect_uri=x&code={code}");
        let answer = self.token(Some(&basic), &form).await;
        (answer.status.as_u16(), answer.json()["error"].as_str().unwrap().to_owned())
    }

    /// Gives beta a second secret.
    async fn turn(&self) -> String {
        let next = ClientSecret::generate(&self.sealing, 2).unwrap();
        let secret = next.open(&self.sealing).unwrap().to_string();
        self.change("beta", |beta| {
            beta.relying_party.as_mut().unwrap().next_credential = Some(ClientCredential::Secret(next));
        })
        .await;
        secret
    }

    /// Ends beta's first secret.
    async fn close(&self) {
        self.change("beta", |beta| {
            let relying_party = beta.relying_party.as_mut().unwrap();
            relying_party.credential = relying_party.next_credential.take().unwrap();
        })
        .await;
    }
}

fn refused(error: &str) -> (u16, String) {
    (if error == "invalid_client" { 401 } else { 400 }, error.to_owned())
}

#[tokio::test]
async fn two_secrets_are_good_while_they_turn_and_one_afterwards() {
    let world = World::new().await;
    let (old, new) = (world.secret("beta").to_owned(), world.turn().await);
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    assert_eq!(world.present(&old, "x").await, refused("invalid_grant"));
    assert_eq!(world.present(&new, "x").await, refused("invalid_grant"));
    for wrong in ["", "wrong", &new[..42], world.secret("delta")] {
        assert_eq!(world.present(wrong, "x").await, refused("invalid_client"), "{wrong}");
    }
    assert_eq!(world.redeem(&code, &[]).await.status, 200);
    world.close().await;
    assert_eq!(world.present(&old, "x").await, refused("invalid_client"));
    assert_eq!(world.present(&new, "x").await, refused("invalid_grant"));
}

// A login that began with the old secret ends with the new one.
#[tokio::test]
async fn a_code_belongs_to_the_client_and_not_to_its_secret() {
    let world = World::new().await;
    let code = world.sign_in(&mut Browser::default(), &[]).await;
    let new = world.turn().await;
    world.close().await;
    let basic = format!("Basic {}", STANDARD.encode(format!("{}:{new}", world.client_id("beta"))));
    let callback = "https%3A%2F%2Fbeta.example%2Fcb%3Fmethod%3Dget";
    let form = format!("grant_type=authorization_code&code={code}&code_verifier={VERIFIER}&redirect_uri={callback}");
    assert_eq!(world.token(Some(&basic), &form).await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_only_wanted_authenticates_nobody() {
    let world = World::new().await;
    for method in [ClientAuthMethod::ClientSecretBasic, ClientAuthMethod::PrivateKeyJwt] {
        world
            .change("beta", |beta| {
                let relying_party = beta.relying_party.as_mut().unwrap();
                relying_party.auth_method = method;
                relying_party.credential = ClientCredential::KeyWanted { version: 1 };
                relying_party.next_credential = Some(ClientCredential::KeyWanted { version: 2 });
            })
            .await;
        for secret in ["", "x", world.secret("beta")] {
            assert_eq!(world.present(secret, "x").await, refused("invalid_client"), "{secret}");
        }
    }
}

#[tokio::test]
async fn a_probe_tells_which_secret_the_application_uses() {
    let world = World::new().await;
    let (old, new) = (world.secret("beta").to_owned(), world.turn().await);
    for (secret, answer, outcome) in [
        (old.as_str(), "invalid_grant", ProbeOutcome::Authenticated { version: 1 }),
        (&new, "invalid_grant", ProbeOutcome::Authenticated { version: 2 }),
        ("wrong", "invalid_client", ProbeOutcome::WrongSecret),
    ] {
        let probe = world.probe("beta").await;
        assert_eq!(world.outcome("beta", &probe).await.unwrap(), ProbeOutcome::Waiting);
        assert_eq!(world.present(secret, &probe).await, refused(answer));
        assert_eq!(world.outcome("beta", &probe).await.unwrap(), outcome);
    }
}

#[tokio::test]
async fn a_probe_needs_nothing_but_the_client_and_gives_nothing() {
    let world = World::new().await;
    let probe = world.probe("beta").await;
    let form = format!("grant_type=authorization_code&code={probe}");
    let answer = world.token(Some(&world.basic("beta")), &form).await;
    answer.assert_token_error(400, "invalid_grant");
    let unknown = world.token(Some(&world.basic("beta")), FORM).await;
    assert_eq!(answer.text(), unknown.text(), "nobody is told that it was a probe");
    assert_eq!(world.userinfo(&probe).await.status, 401);
    let answer = world.token(Some(&world.basic("beta")), &form.replace("authorization_code", "password")).await;
    answer.assert_token_error(400, "unsupported_grant_type");
}

#[tokio::test]
async fn the_first_outcome_of_a_probe_stays() {
    let world = World::new().await;
    let first = ProbeOutcome::Authenticated { version: 1 };
    let probe = world.probe("beta").await;
    for secret in [world.secret("beta"), "wrong", world.secret("beta")] {
        world.present(secret, &probe).await;
        assert_eq!(world.outcome("beta", &probe).await.unwrap(), first);
    }
    let probe = world.probe("beta").await;
    for secret in ["wrong", world.secret("beta")] {
        world.present(secret, &probe).await;
        assert_eq!(world.outcome("beta", &probe).await.unwrap(), ProbeOutcome::WrongSecret);
    }
}

#[tokio::test]
async fn another_client_can_say_nothing_about_a_probe() {
    let world = World::new().await;
    let probe = world.probe("beta").await;
    let (delta, secret) = (world.client_id("delta"), world.secret("delta"));
    for secret in [secret, "wrong"] {
        let form = format!("grant_type=authorization_code&code={probe}&client_id={delta}&client_secret={secret}");
        assert!(world.token(None, &form).await.status.is_client_error());
    }
    for (id, secret) in [("nobody", "x"), (&world.client_id("alpha"), "wrong")] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let form = format!("grant_type=authorization_code&code={probe}");
        world.token(Some(&basic), &form).await.assert_token_error(401, "invalid_client");
    }
    assert_eq!(world.outcome("beta", &probe).await.unwrap(), ProbeOutcome::Waiting);
    assert!(matches!(world.outcome("delta", &probe).await, Err(ProbeError::Unknown)));
    let made_up = format!("hwp_{}", "A".repeat(43));
    assert_eq!(world.present(world.secret("beta"), &made_up).await, refused("invalid_grant"));
}

// AList tries the other method first, at every login.
#[tokio::test]
async fn a_method_that_was_not_registered_is_no_outcome() {
    let world = World::new().await;
    let probe = world.probe("beta").await;
    let form = format!(
        "grant_type=authorization_code&code={probe}&client_id={}&client_secret={}",
        world.client_id("beta"),
        world.secret("beta")
    );
    world.token(None, &form).await.assert_token_error(401, "invalid_client");
    assert_eq!(world.outcome("beta", &probe).await.unwrap(), ProbeOutcome::Waiting);
    world.present(world.secret("beta"), &probe).await;
    assert_eq!(world.outcome("beta", &probe).await.unwrap(), ProbeOutcome::Authenticated { version: 1 });
}

#[tokio::test]
async fn probes_are_few_and_short() {
    let world = World::new().await;
    let mut last = String::new();
    for _ in 0..4 {
        last = world.probe("beta").await;
    }
    let beta = "beta".parse().unwrap();
    let fifth = world.probes().create(&beta, world.time.now()).await;
    assert!(matches!(fifth, Err(ProbeError::TooMany)));
    world.probe("delta").await;
    world.present(world.secret("beta"), &last).await;
    world.probe("beta").await;
    world.pass(120);
    assert!(matches!(world.outcome("beta", &last).await, Err(ProbeError::Unknown)));
    let late = world.probe("beta").await;
    world.pass(120);
    assert_eq!(world.present(world.secret("beta"), &late).await, refused("invalid_grant"));
    assert!(matches!(world.outcome("beta", &late).await, Err(ProbeError::Unknown)));
}
