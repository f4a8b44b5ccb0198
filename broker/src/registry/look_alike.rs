//! Names that look alike: whoever registers a client chooses the name that users see, and must not choose that of an
//! application they trust (RFC 7591 5).

use unicode_security::confusable_detection::skeleton;

use crate::registry::{Instance, Snapshot};

impl Snapshot {
    /// An instance whose name, to the eye, is this one: whatever its case, spaces, punctuation and look-alike letters.
    pub fn look_alike(&self, name: &str) -> Option<&Instance> {
        let wanted = seen(name);
        let alike = |own: &str| {
            let own = seen(own);
            wanted.iter().any(|form| !form.is_empty() && own.contains(form))
        };
        let found = self.instances().find(|instance| alike(&instance.display_name) || alike(instance.name.as_str()));
        found.map(|instance| &**instance)
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
