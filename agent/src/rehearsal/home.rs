//! The application as home: that nobody is signed in without cookies, and what a sign-in with a password comes to.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::Typed;
use super::act::{Act, shortened};
use crate::application::{Answer, Application};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::doctor::cookies;
use crate::doctor::finding::Verdict;
use crate::recipe::home::{Home, Otherwise, Selectors};
use crate::recipe::password::PasswordOutcome;
use crate::recipe::step::Step;

/// Tries what needs nobody, and a sign-in if somebody typed a password.
pub(super) async fn rehearse(config: &Config, application: &Application, typed: Option<&Typed>) -> Vec<Act> {
    let Some(recipe) = config.home.as_ref().and(config.recipe.home.as_ref()) else { return Vec::new() };
    let mut acts: Vec<Act> = nobody(recipe, application).await.into_iter().collect();
    match (typed, &recipe.password) {
        (Some(typed), Some(_)) => acts.extend(sign_in(config, recipe, application, typed).await),
        (None, Some(_)) => {
            let meaning = "not tried: run it with --username NAME, and type the password when asked";
            acts.push(Act::note("password", Verdict::Ok, meaning));
        }
        (Some(_), None) => acts.push(Act::note("password", Verdict::Warning, "the recipe judges no passwords")),
        (None, None) => {}
    }
    acts
}

/// Without cookies there must be nobody: else everybody would be vouched for as the same user.
async fn nobody(recipe: &Home, application: &Application) -> Option<Act> {
    const PART: &str = "who_am_i";
    let mut conversation = Conversation::begin(application, None);
    let request = recipe.who_am_i.iter().find(|request| conversation.can_take(&request.step()))?;
    let step = request.step();
    Some(match conversation.take(&step, &[]).await {
        Ok(answer) if request.when.holds(answer.status, &answer.body) => {
            let meaning = "somebody is signed in without any cookie: the recipe's `when` holds for everybody";
            Act::answered(PART, &step, answer.status, Verdict::Error, meaning)
        }
        Ok(answer) => Act::answered(PART, &step, answer.status, Verdict::Ok, "nobody is signed in without a cookie"),
        Err(error) => Act::failed(PART, &step, &error),
    })
}

const PASSWORD: &str = "password";

/// In a session of its own, as the portal does it.
async fn sign_in(config: &Config, recipe: &Home, application: &Application, typed: &Typed) -> Vec<Act> {
    let Some(password) = &recipe.password else { return Vec::new() };
    let values = [("username", typed.username.as_str()), ("password", typed.password.expose_secret())];
    let mut conversation = Conversation::begin(application, None);
    let (mut acts, mut outcome) = take(config, &mut conversation, &password.steps, &values).await;
    if let (Some(PasswordOutcome::SecondFactorNeeded), Some(second)) = (outcome, &password.second_factor) {
        match (typed.ask_code)() {
            Some(code) => {
                let values = [values[0], values[1], ("code", code.expose_secret())];
                let (further, judged) = take(config, &mut conversation, &second.steps, &values).await;
                acts.extend(further);
                outcome = judged;
            }
            None => acts.push(Act::note(PASSWORD, Verdict::Warning, "no code was typed, so the sign-in ends here")),
        }
    }
    if outcome == Some(PasswordOutcome::Ok) {
        acts.extend(who_it_is(recipe, &mut conversation).await);
    }
    if let Some(step) = &password.sign_out {
        acts.push(match conversation.take(step, &[]).await {
            Ok(answer) => Act::answered("sign_out", step, answer.status, Verdict::Ok, "the session is ended again"),
            Err(error) => Act::failed("sign_out", step, &error),
        });
    }
    acts
}

/// Takes steps until one comes to something else than the next; and what the last one came to.
async fn take(
    config: &Config,
    conversation: &mut Conversation,
    steps: &[Step],
    values: &[(&str, &str)],
) -> (Vec<Act>, Option<PasswordOutcome>) {
    let mut acts = Vec::new();
    let mut outcome = None;
    for step in steps {
        let answer = match conversation.take(step, values).await {
            Ok(answer) => answer,
            Err(error) => {
                acts.push(Act::failed(PASSWORD, step, &error));
                return (acts, None);
            }
        };
        acts.extend(cookies_of(config, &answer));
        let (mut act, judged) = judged(step, &answer);
        let decides = steps.last().is_some_and(|last| std::ptr::eq(last, step));
        if judged.is_none() && !decides {
            act = Act::answered(PASSWORD, step, answer.status, Verdict::Ok, "goes on with the next");
        }
        let goes_on = act.verdict == Verdict::Ok;
        acts.push(act);
        outcome = judged;
        if !goes_on {
            break;
        }
    }
    (acts, outcome)
}

/// What one answer of a sign-in means.
fn judged(step: &Step, answer: &Answer) -> (Act, Option<PasswordOutcome>) {
    let rule = step.outcomes.iter().position(|rule| rule.when.holds(answer.status, &answer.body));
    let outcome = rule.map(|position| step.outcomes[position].outcome);
    let (verdict, meaning) = match (rule, outcome) {
        (Some(position), Some(outcome)) => {
            let verdict = if outcome == PasswordOutcome::Ok { Verdict::Ok } else { Verdict::Warning };
            (verdict, format!("outcome {} ({}): {}", position + 1, name(outcome), told(outcome)))
        }
        _ if step.outcomes.is_empty() => (Verdict::Ok, "goes on with the next".to_owned()),
        _ => {
            let meaning = "none of the outcomes fits: users would read that the application does not answer; check public_url and the application's CSRF settings";
            (Verdict::Error, meaning.to_owned())
        }
    };
    (Act::answered(PASSWORD, step, answer.status, verdict, meaning), outcome)
}

/// The session's own cookies are the ones that the portal needs to see.
fn cookies_of(config: &Config, answer: &Answer) -> Vec<Act> {
    let set = answer.set_cookies.iter().filter_map(|value| value.to_str().ok());
    let found = set.flat_map(|set_cookie| cookies::judge(set_cookie, config));
    found.map(|finding| Act::note("cookies", finding.verdict, finding.sentence)).collect()
}

/// The requests that say who signed in, and where in their answers the user is.
async fn who_it_is(recipe: &Home, conversation: &mut Conversation) -> Vec<Act> {
    const PART: &str = "who_am_i";
    let mut acts = Vec::new();
    let mut documents = BTreeMap::new();
    for request in &recipe.who_am_i {
        let step = request.step();
        match conversation.take(&step, &[]).await {
            Ok(answer) if request.when.holds(answer.status, &answer.body) => {
                acts.push(Act::answered(
                    PART,
                    &step,
                    answer.status,
                    Verdict::Ok,
                    format!("is the answer {:?}", request.name),
                ));
                documents.insert(request.name.clone(), answer.body);
            }
            Ok(answer) => {
                let meaning = match request.otherwise {
                    Some(otherwise) => format!("{:?} does not hold: {}", request.name, meant(otherwise)),
                    None => format!("the condition of {:?} does not hold", request.name),
                };
                acts.push(Act::answered(PART, &step, answer.status, Verdict::Warning, meaning));
            }
            Err(error) => acts.push(Act::failed(PART, &step, &error)),
        }
    }
    for refusal in &recipe.refuse_when {
        let status = refusal.when.status.unwrap_or(200);
        if documents.get(&refusal.answer).is_some_and(|document| refusal.when.holds(status, document)) {
            acts.push(Act::note("refuse_when", Verdict::Warning, "this session is not one that the home vouches for"));
        }
    }
    acts.extend(identity(recipe, &documents));
    acts
}

fn identity(recipe: &Home, documents: &BTreeMap<String, Value>) -> Vec<Act> {
    let map = &recipe.identity;
    let fields: [(&str, &Selectors, bool); 9] = [
        ("home_user_id", &map.home_user_id, true),
        ("username", &map.username, true),
        ("name", &map.name, false),
        ("given_name", &map.given_name, false),
        ("family_name", &map.family_name, false),
        ("email", &map.email, false),
        ("email_verified", &map.email_verified, false),
        ("groups", &map.groups, false),
        ("auth_time", &map.auth_time, false),
    ];
    let asked_for = fields.into_iter().filter(|(_, selectors, _)| !selectors.0.is_empty());
    asked_for
        .map(|(field, selectors, needed)| {
            let found = selectors.0.iter().find_map(|selector| {
                let values = selector.pointer.select(documents.get(&selector.answer)?);
                (!values.is_empty()).then_some((selector, values))
            });
            let part = format!("identity.{field}");
            match found {
                Some((selector, values)) => {
                    let shown: Vec<String> = values.iter().take(3).map(|value| shortened(value)).collect();
                    let more = if values.len() > 3 { ", …" } else { "" };
                    let meaning = format!("{}:{} is {}{more}", selector.answer, selector.pointer, shown.join(", "));
                    Act::note(&part, Verdict::Ok, meaning)
                }
                None if needed => {
                    Act::note(&part, Verdict::Error, "nothing is there, and nobody can be vouched for without")
                }
                None => Act::note(&part, Verdict::Ok, "nothing is there; relying parties learn nothing of it"),
            }
        })
        .collect()
}

fn meant(otherwise: Otherwise) -> &'static str {
    match otherwise {
        Otherwise::SecondFactorMissing => "a second factor is to be set up first",
        Otherwise::Disabled => "the user may not log in",
        Otherwise::Guest => "the account belongs to nobody",
    }
}

fn name(outcome: PasswordOutcome) -> &'static str {
    match outcome {
        PasswordOutcome::Ok => "ok",
        PasswordOutcome::Wrong => "wrong",
        PasswordOutcome::SecondFactorNeeded => "second_factor_needed",
        PasswordOutcome::CodeWrong => "code_wrong",
        PasswordOutcome::Guest => "guest",
        PasswordOutcome::Locked => "locked",
        PasswordOutcome::Disabled => "disabled",
    }
}

fn told(outcome: PasswordOutcome) -> &'static str {
    match outcome {
        PasswordOutcome::Ok => "signed in",
        PasswordOutcome::Wrong => "name or password is wrong",
        PasswordOutcome::SecondFactorNeeded => "the password is right, and a code is asked for",
        PasswordOutcome::CodeWrong => "not that code",
        PasswordOutcome::Guest => "signed in, with an account that belongs to nobody",
        PasswordOutcome::Locked => "too many tries",
        PasswordOutcome::Disabled => "the user may not sign in",
    }
}
