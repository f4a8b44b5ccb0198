//! Files and a store that say what a federation is.

use super::*;
use crate::config::Config;
use crate::storage::sled::SledStore;

const NAMES: &str = "public_url = \"https://login.example.org\"\nagent_url = \"https://login.example.org:8443\"\ntrust_domain = \"example.org\"";

fn named(text: &str) -> NamedSettings {
    Config::parse(&format!("data_dir = \"/d\"\n{text}")).unwrap().named
}

struct World {
    store: Arc<dyn Store>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> (Self, crate::clock::ManualClock) {
        let folder = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(Timestamp::from_secs(1_800_000_000));
        (Self { store: Arc::new(SledStore::open(folder.path()).unwrap()), clock, _folder: folder }, hand)
    }

    async fn start(&self, broker: &str, text: &str) -> Result<InForce, SettingsError> {
        let (in_force, _, follow) = agree(&self.store, &named(text), broker, self.clock.clone()).await?;
        tokio::spawn(follow);
        Ok(in_force)
    }
}

fn session(in_force: &InForce) -> u64 {
    in_force.lifetimes().now().session.as_secs()
}

#[tokio::test]
async fn what_a_file_leaves_out_stays_as_it_is() {
    let (world, _) = World::new();
    assert!(matches!(world.start("one", "").await, Err(SettingsError::Nobody)));
    let half = "public_url = \"https://login.example.org\"";
    assert!(matches!(world.start("one", half).await, Err(SettingsError::Nobody)));
    world.start("one", &format!("{NAMES}\n[lifetimes]\nsession = 9000\nsession_idle = 900")).await.unwrap();
    // Named by nobody here, and by nothing but one line there.
    assert_eq!(session(&world.start("two", "").await.unwrap()), 9000);
    let third = world.start("three", "[lifetimes]\nid_token = 60\n[outbound]\nprivate_networks = [\"10.0.0.0/8\"]");
    let third = third.await.unwrap().federation();
    assert_eq!((third.lifetimes.session.as_secs(), third.lifetimes.id_token.as_secs()), (9000, 60));
    assert_eq!(third.private_networks.len(), 1);
    assert_eq!(format!("{third:?}"), format!("{:?}", world.start("one", NAMES).await.unwrap().federation()));
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_and_changes_nothing() {
    let (world, _) = World::new();
    let first =
        world.start("one", &format!("{NAMES}\n[lifetimes]\nsession = 9000\nsession_idle = 9000")).await.unwrap();
    let refused = world.start("two", "[lifetimes]\nsession = 600").await.unwrap_err().to_string();
    assert!(refused.contains("session_idle must not be longer"), "{refused}");
    let other = world.start("two", "trust_domain = \"other.example\"").await.unwrap_err().to_string();
    assert!(other.contains("holds the federation example.org"), "{other}");
    assert_eq!(session(&first), 9000);
}

#[tokio::test]
async fn a_change_reaches_brokers_that_run_and_says_whose_word_it_overrules() {
    let (world, _) = World::new();
    let one = world.start("one", &format!("{NAMES}\n[lifetimes]\nsession = 9000")).await.unwrap();
    let lifetimes = one.lifetimes();
    let two = "public_url = \"https://sso.example.org\"\n[lifetimes]\nsession = 8000";
    let two = world.start("two", two).await.unwrap();
    let followed = async {
        while lifetimes.now().session.as_secs() != 8000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), followed).await.unwrap();
    assert_eq!(two.restart_needed(), None);
    assert_eq!(one.restart_needed().unwrap(), "restart this broker: public_url changed, and takes effect here then");
    let all = one.all();
    let of = |name: &str| all.iter().find(|setting| setting.name == name).unwrap().clone();
    let session = of("lifetimes.session");
    assert_eq!((session.value, session.file), (8000.into(), Some(9000.into())));
    assert_eq!(session.named_by.unwrap().broker, "two");
    assert_eq!(of("public_url").until_restart, Some("https://login.example.org".into()));
    assert_eq!(of("lifetimes.id_token").named_by, None);
    // The word that is overruled is named by whose it was.
    let table = Table::<StoredSettings>::new(world.store.clone());
    let before = table.get(ID).await.unwrap().unwrap();
    let by = NamedBy { broker: "one".to_owned(), at: world.clock.now() };
    let back = step(Some(before), &named("[lifetimes]\nsession = 9000"), &by).ok().unwrap().write.unwrap().1.unwrap();
    assert!(back.ends_with("lifetimes.session 8000 (by the file of two) -> 9000"), "{back}");
}

#[tokio::test]
async fn shorter_lifetimes_do_not_end_the_keys_of_what_was_given_out_before() {
    let (world, hand) = World::new();
    let one = world.start("one", &format!("{NAMES}\n[rotation]\nkey_set_max_age = 1000")).await.unwrap();
    let (tokens, sealed) = (one.longest_token(), one.longest_sealed());
    let short = "[lifetimes]\nsession = 60\nsession_idle = 60\nid_token = 60\naccess_token = 60\nrefresh_token = 60\n\
                 refresh_token_idle = 60\n[rotation]\nkey_set_max_age = 10";
    let two = world.start("two", short).await.unwrap();
    assert_eq!((two.longest_token(), two.longest_sealed()), (tokens, sealed));
    assert_eq!(two.rotation().now().key_set_max_age.as_secs(), 1000);
    // Caches are told at once, or they would outlive what is kept for their sake.
    assert_eq!(two.key_set_max_age().now().as_secs(), 10);
    hand.advance(Duration::from_secs(2000));
    assert_eq!(two.longest_token(), tokens - Duration::from_secs(2000));
    assert_eq!(two.rotation().now().key_set_max_age.as_secs(), 10);
    hand.advance(sealed);
    assert_eq!(two.longest_token(), two.lifetimes().now().longest_token());
    assert_eq!(two.longest_sealed(), two.lifetimes().now().longest_sealed());
}

#[tokio::test]
async fn what_was_given_out_under_settings_that_came_and_went_counts() {
    let (world, hand) = World::new();
    let age = |secs: u64| format!("[rotation]\nkey_set_max_age = {secs}");
    let kept = |broker: &InForce| broker.rotation().now().key_set_max_age.as_secs();
    // The longest of all that are in caches, for as long as any of them may be.
    world.start("one", &format!("{NAMES}\n{}", age(1000))).await.unwrap();
    hand.advance(Duration::from_secs(10));
    world.start("two", &age(900)).await.unwrap();
    hand.advance(Duration::from_secs(1500));
    let two = world.start("two", &age(1)).await.unwrap();
    hand.advance(Duration::from_secs(1799));
    assert_eq!(kept(&two), 1000);
    hand.advance(Duration::from_secs(1));
    assert_eq!(kept(&two), 1);
    // Back to what it was, while this broker looked away: what was allowed in between still counts.
    let (blind, _, _) = agree(&world.store, &named(""), "three", world.clock.clone()).await.unwrap();
    world.start("two", &age(5000)).await.unwrap();
    world.start("two", &age(1)).await.unwrap();
    assert_eq!(kept(&blind), 1);
    blind.adopt(Table::<StoredSettings>::new(world.store.clone()).get(ID).await.unwrap().unwrap().record);
    assert_eq!(kept(&blind), 5000);
}

#[tokio::test]
async fn another_spelling_of_an_address_is_no_other_address() {
    let (world, _) = World::new();
    let spelt = NAMES.replace("https://login.example.org:8443", "HTTPS://Login.example.org:8443");
    let one = world.start("one", &spelt).await.unwrap();
    let all = one.all();
    let url = all.iter().find(|setting| setting.name == "agent_url").unwrap();
    assert_eq!(url.file.as_ref(), Some(&url.value));
}

#[tokio::test]
async fn settings_of_before_anybody_was_named_are_read() {
    let (world, _) = World::new();
    let old = serde_json::json!({
        "public_url": "https://login.example.org", "agent_url": "https://login.example.org:8443",
        "trust_domain": "example.org", "lifetimes": {}, "rotation": {}, "private_networks": [],
    });
    let stored: StoredSettings = serde_json::from_value(old).unwrap();
    let table = Table::new(world.store.clone());
    table.commit(vec![table.put(ID, &stored, Expect::Absent).unwrap()]).await.unwrap();
    assert_eq!(session(&world.start("one", "").await.unwrap()), 43_200);
}
