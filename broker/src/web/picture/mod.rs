//! Pictures for pages, as inline SVG: pure functions of what they show, which know neither store nor clock.
//!
//! | picture | how it is made |
//! |---|---|
//! | [`TrustMap`]: who accepts whose users | `TrustMap::draw(&parties, &edges)` |
//! | [`Timeline`]: keys, secrets and the CA, and what happens next | `Timeline::draw(now, &lanes)` |
//! | [`Plot`]: logins and failures over time, with a table of the numbers | `Plot::draw(&counts, per)` |
//!
//! Each is a value that a page has as a field and its template shows by `{{ map }}`, without any filter: it is safe HTML, and
//! valid XML. It brings its own `<figure>` of full width, which scrolls where the screen is narrower than the picture, by
//! keyboard too. What a picture says, it says by shape and words as well as by colour; colours come from the stylesheet
//! (`picture.css`) only, which follows dark and light. There are no scripts, no ids and no inline styles in it.
//!
//! All text may be anybody's: it is escaped, cut to the room that it has, and freed of what XML forbids and of what turns the
//! direction of writing around. The whole text stands in the `<title>` beside it.

mod federation;
mod plot;
#[cfg(test)]
mod tests;
mod timeline;
mod trust_map;
mod words;

pub use federation::{Consent, Edge, Party, Roles, Standing};
pub use plot::{Count, Plot};
pub use timeline::{Lane, Mark, Span, SpanState, Timeline};
pub use trust_map::TrustMap;
