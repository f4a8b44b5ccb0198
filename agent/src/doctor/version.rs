//! Whether the recipe was written for this version of the application.

use super::finding::Finding;
use crate::application::{Application, Question};
use crate::config::Config;
use crate::recipe::version::Version;

const ABOUT: &str = "version";

/// Asks the application, if it says somewhere.
pub(crate) async fn check(config: &Config, application: &Application) -> Option<Finding> {
    Some(judge(config, application, config.recipe.version.as_ref()?).await)
}

async fn judge(config: &Config, application: &Application, version: &Version) -> Finding {
    let title = &config.recipe.title;
    let unknown = |why: String| {
        let remedy = format!("see that it is {}, and then go by what the other checks say", version.supported);
        Finding::warning(ABOUT, format!("{title} does not say which version it is ({why})."), remedy)
    };
    let answer = match application.ask(Question::get(&version.path)).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return unknown(format!("{} answers {}", version.path, answer.status)),
        Err(error) => return unknown(error.to_string()),
    };
    let found = version.pointer.select(&answer.body);
    let Some(written) = found.first().and_then(|found| found.as_str()) else {
        return unknown(format!("nothing at {} of {}", version.pointer, version.path));
    };
    let written: String = written.chars().filter(|c| !c.is_control()).take(40).collect();
    match version.supports(&written) {
        Some(true) => {
            Finding::ok(ABOUT, format!("{title} is {written}, which the recipe knows ({}).", version.supported))
        }
        Some(false) => {
            let sentence = format!("{title} is {written}; the recipe was written for {}.", version.supported);
            let remedy = "try a login on a test installation first, and run: homeward-agent recipe test";
            Finding::warning(ABOUT, sentence, remedy)
        }
        None => unknown(format!("it says {written:?}")),
    }
}
