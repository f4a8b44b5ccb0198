use super::trust_map::{BOX, GAP};
use super::*;

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![Just(Standing::Healthy), hostile().prop_map(Standing::Unhealthy), Just(Standing::Quarantined)]
}

prop_compose! {
    fn party()(name in hostile(), display_name in hostile(), standing in standing(), href in proptest::option::of(hostile()),
        roles in prop_oneof![Just(Roles::Home), Just(Roles::RelyingParty), Just(Roles::Both)]) -> Party {
        Party { name, display_name, roles, standing, href }
    }
}

fn consent() -> impl Strategy<Value = Consent> {
    prop_oneof![3 => Just(Consent::Both), 1 => Just(Consent::NotReleased), 1 => Just(Consent::NotAccepted)]
}

/// Up to sixty instances, and edges between them, some of which name nobody.
fn federation() -> impl Strategy<Value = (Vec<Party>, Vec<Edge>)> {
    proptest::collection::vec(party(), 0..60).prop_flat_map(|mut parties| {
        parties.iter_mut().enumerate().for_each(|(nth, party)| party.name += &nth.to_string());
        let mut names: Vec<String> = parties.iter().map(|party| party.name.clone()).collect();
        names.push("nobody".into());
        let name = proptest::sample::select(names);
        let edge = (name.clone(), name, consent());
        let edge = edge.prop_map(|(home, relying_party, consent)| Edge { home, relying_party, consent });
        (Just(parties), proptest::collection::vec(edge, 0..150))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_shows_everybody_and_every_edge_and_nothing_lies_upon_anything((parties, edges) in federation()) {
        let map = TrustMap::draw(&parties, &edges);
        let xml = map.to_string();
        check(&xml);
        let document = Document::parse(&xml).unwrap();
        no_two_overlap(&texts(&document.root_element()));

        let boxes: Vec<Place> = map.homes.iter().chain(&map.relying_parties).map(|node| {
            (f64::from(node.x), f64::from(node.y), f64::from(node.x + BOX), f64::from(node.y + node.height))
        }).collect();
        for (nth, place) in boxes.iter().enumerate() {
            prop_assert!(boxes[nth + 1..].iter().all(|other| !overlap(*place, *other)));
            prop_assert!(place.3 <= f64::from(map.height));
        }
        for node in map.homes.iter().chain(&map.relying_parties) {
            for line in &node.lines {
                prop_assert!(line.y - 11 > node.y && line.y + 4 < node.y + node.height, "text leaves its box");
            }
        }
        for party in &parties {
            let homes = map.homes.iter().filter(|node| node.name == party.name).count();
            let relying_parties = map.relying_parties.iter().filter(|node| node.name == party.name).count();
            match party.roles {
                Roles::Home => prop_assert_eq!(homes, 1),
                Roles::RelyingParty => prop_assert_eq!(relying_parties, 1),
                Roles::Both => prop_assert_eq!((homes, relying_parties), (1, 1)),
            }
        }

        let shown: usize = map.homes.iter().map(|home| home.arrows.len()).sum();
        prop_assert_eq!(shown, edges.len());
        for home in &map.homes {
            for arrow in &home.arrows {
                let at = |node: &trust_map::Node, y: i32| node.y < y && y < node.y + node.height;
                prop_assert!(at(home, arrow.ends.0), "an arrow begins beside its box");
                prop_assert_eq!(map.relying_parties.iter().filter(|node| at(node, arrow.ends.1)).count(), 1);
            }
        }
        prop_assert!(GAP.0 < GAP.1);
    }
}

fn named(name: &str, roles: Roles, standing: Standing) -> Party {
    Party { name: name.into(), display_name: name.into(), roles, standing, href: None }
}

fn edge(home: &str, relying_party: &str, consent: Consent) -> Edge {
    Edge { home: home.into(), relying_party: relying_party.into(), consent }
}

#[test]
fn who_has_not_consented_and_who_is_cut_off_is_said_in_words() {
    let parties = [
        named("alpha", Roles::Home, Standing::Healthy),
        named("beta", Roles::RelyingParty, Standing::Unhealthy("its agent is offline".into())),
        named("gamma", Roles::RelyingParty, Standing::Quarantined),
    ];
    let edges = [
        edge("alpha", "beta", Consent::NotReleased),
        edge("alpha", "gamma", Consent::NotAccepted),
        edge("alpha", "gamma", Consent::Both),
    ];
    let xml = TrustMap::draw(&parties, &edges).to_string();
    let document = Document::parse(&xml).unwrap();
    let words: Vec<String> = texts(&document.root_element()).into_iter().map(|(text, _)| text).collect();
    for expected in
        ["does not release to beta", "does not accept alpha", "unhealthy: its agent is offline", "quarantined"]
    {
        assert!(words.iter().any(|text| text == expected), "{expected} in {words:?}");
    }
    assert_eq!(
        titles(&document, "missing"),
        [
            "Users of alpha may not log in at beta: alpha does not release them.",
            "Users of alpha may not log in at gamma: gamma does not accept them."
        ]
    );
    assert_eq!(titles(&document, "idle"), ["Users of alpha may not log in at gamma: gamma is quarantined."]);
}

#[test]
fn the_same_federation_is_the_same_picture_in_whatever_order_it_is_told() {
    let mut parties: Vec<Party> = (0..12)
        .map(|nth| named(&format!("n{nth}"), if nth % 3 == 0 { Roles::Home } else { Roles::Both }, Standing::Healthy))
        .collect();
    let mut edges: Vec<Edge> = (0..12)
        .flat_map(|nth| [(nth, nth * 5 % 12), (nth, (nth + 1) % 12)])
        .map(|(from, to)| edge(&format!("n{from}"), &format!("n{to}"), Consent::Both))
        .collect();
    let first = TrustMap::draw(&parties, &edges).to_string();
    parties.reverse();
    edges.reverse();
    assert_eq!(TrustMap::draw(&parties, &edges).to_string(), first);
}

#[test]
fn pairs_that_have_nothing_to_do_with_each_other_cross_nowhere() {
    let (mut parties, mut edges) = (Vec::new(), Vec::new());
    for nth in 0..20 {
        parties.push(named(&format!("home{nth}"), Roles::Home, Standing::Healthy));
        parties.push(named(&format!("party{}", 19 - nth), Roles::RelyingParty, Standing::Healthy));
        edges.push(edge(&format!("home{nth}"), &format!("party{}", 19 - nth), Consent::Both));
    }
    let map = TrustMap::draw(&parties, &edges);
    let mut ends: Vec<(i32, i32)> = map.homes.iter().flat_map(|home| &home.arrows).map(|arrow| arrow.ends).collect();
    ends.sort_unstable();
    assert!(ends.is_sorted_by_key(|(_, to)| *to), "{ends:?}");
}

#[test]
fn an_empty_federation_is_a_sentence() {
    let xml = TrustMap::draw(&[], &[]).to_string();
    check(&xml);
    assert!(xml.contains("No instance has enrolled yet."), "{xml}");
}
