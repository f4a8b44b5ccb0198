//! Names that look alike: whoever registers a client chooses the name that users see, and must not choose that of an
//! application they trust (RFC 7591 5).

use unicode_security::confusable_detection::skeleton;

use homeward_certs::identity::InstanceName;

use crate::registry::Snapshot;

impl Snapshot {
    /// The instance or home whose name, to the eye, is this one or has it in it: whatever its case, spaces, punctuation
    /// and look-alike letters.
    pub fn look_alike(&self, name: &str) -> Option<&InstanceName> {
        let wanted = seen(name);
        let alike = |own: &str| {
            let own = seen(own);
            wanted.iter().any(|form| !form.is_empty() && own.contains(form))
        };
        self.known_names().find(|(name, shown)| alike(shown) || alike(name.as_str())).map(|(name, _)| name)
    }

    /// The other instance or home that users could not tell from one of this name. Ops choose both, so that a name may
    /// hold another one; but two that look the same on the home picker are one too many.
    pub fn twin(&self, own: &InstanceName, display_name: &str) -> Option<&InstanceName> {
        self.twins(own, display_name).next()
    }

    /// The home without agent that users could not tell from an instance of this name.
    pub fn upstream_twin(&self, own: &InstanceName, display_name: &str) -> Option<&InstanceName> {
        // Instances may look alike among themselves, and one of those must not hide it.
        self.twins(own, display_name).find(|name| self.upstream(name).is_some())
    }

    fn twins(&self, own: &InstanceName, display_name: &str) -> impl Iterator<Item = &InstanceName> {
        let wanted: Vec<String> = [own.as_str(), display_name].into_iter().flat_map(seen).collect();
        let same = move |other: &str| seen(other).iter().any(|form| !form.is_empty() && wanted.contains(form));
        let own = own.clone();
        let alike =
            self.known_names().filter(move |(name, shown)| **name != own && (same(shown) || same(name.as_str())));
        alike.map(|(name, _)| name)
    }

    /// All that users see on the home picker, by name and as they see it.
    fn known_names(&self) -> impl Iterator<Item = (&InstanceName, &str)> {
        let instances = self.instances().map(|instance| (&instance.name, instance.display_name.as_str()));
        instances.chain(self.upstreams().map(|upstream| (&upstream.name, upstream.display_name.as_str())))
    }
}

/// What the eye makes of a name (UTS 39 4). Twice, because case and look-alikes interfere: `I` looks like `l`, and is `i`.
fn seen(name: &str) -> [String; 2] {
    let letters = |text: String| text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect::<String>();
    let (as_written, as_lower) = (skeleton(name).collect(), skeleton(&name.to_lowercase()).collect());
    [letters(as_written), letters(as_lower)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(one: &str, other: &str) -> bool {
        let other = seen(other);
        seen(one).iter().any(|form| other.contains(form))
    }

    #[test]
    fn names_that_look_alike_are_found() {
        for name in ["Alpha site", "alpha site", "ALPHA  SITE", "AIpha site", "Аlphа sіte", "Alpha-Site!", "a1pha site"]
        {
            assert!(alike(name, "Alpha site"), "{name}");
        }
        for name in ["Alpha", "Alpha sites", "Beta site", "Αλφα"] {
            assert!(!alike(name, "Alpha site"), "{name}");
        }
    }
}
