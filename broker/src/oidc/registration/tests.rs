//! Metadata that nobody would think of: whatever is sent, it is read by the rules or refused in a fixed sentence.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::address::AddressRules;
use super::metadata::{ClientMetadata, KNOWN};
use crate::config::Issuer;
use crate::registry::ClientAuthMethod;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        prop::sample::select(vec![
            "https://shop.example/cb",
            "https://shop.example/cb?code=1",
            "http://127.0.0.1/cb",
            "javascript:alert(1)",
            "com.example.app:/cb",
            "https://[::1",
            "none",
            "RS256",
            "native",
            "pairwise",
            "private_key_jwt",
            "authorization_code",
            "client_credentials",
            "code",
        ])
        .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("keys|kty|x|y|n|[a-z]{1,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_sent_is_read_by_the_rules_or_refused(
        members in prop::collection::btree_map(prop::sample::select(KNOWN.to_vec()), value(), 0..8),
        redirect_uris in prop::collection::vec(text(), 0..3),
    ) {
        let rules = AddressRules::new(&Issuer::parse("https://login.example").unwrap());
        let mut object: Map<String, Value> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        object.insert("redirect_uris".to_owned(), Value::from(redirect_uris));
        match ClientMetadata::read(&object, rules) {
            Err(error) => {
                let sentence = error.to_string();
                prop_assert!(sentence.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte)));
            }
            Ok(metadata) => {
                let hostile = |uri: &String| uri.contains('#') || uri.contains('*') || uri.starts_with("javascript");
                prop_assert!(!metadata.redirect_uris.iter().any(hostile));
                let public = metadata.auth_method == ClientAuthMethod::None;
                prop_assert!(!public || !metadata.policy.grant_types.iter().any(|kind| kind.is_for_confidential_clients()));
                prop_assert!(metadata.accepted.keys().all(|name| KNOWN.contains(&name.as_str())));
                // What was accepted is accepted again: a client may send back what it was told.
                prop_assert!(ClientMetadata::read(&metadata.accepted, rules).is_ok());
            }
        }
    }
}
