//! Whoever says nothing, or what he has to say slowly.

use std::time::Duration;

use ::http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Alpha;
use super::portal::World;
use crate::home::http;
use crate::recipe::Recipe;

#[tokio::test]
async fn silent_strangers_hold_the_portal_up_for_ten_seconds_and_no_longer() {
    let world = World::start("['password']").await;
    let address = world.portal.trim_start_matches("http://");
    let begun = Instant::now();
    let mut silent = Vec::new();
    for n in 0..256 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if n % 2 == 0 {
            stream.write_all(b"GET /homeward/login?tick").await.unwrap();
        }
        silent.push(stream);
    }
    let get = || world.browser.get(format!("{}/homeward/style.css", world.portal)).send();
    let soon = tokio::time::timeout(Duration::from_secs(3), get()).await;
    assert!(soon.is_err(), "there are 256 places, and all are taken");
    let answer = tokio::time::timeout(Duration::from_secs(20), get()).await.expect("they never go away").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// The application and the broker have their own, shorter times: whoever sends his form slowly has this one.
#[tokio::test]
async fn a_form_that_never_ends_is_not_waited_for() {
    assert_eq!(http::REQUEST_TIMEOUT, Duration::from_secs(45));
    let (alpha, recipe) = (Alpha::start().await, Recipe::embedded_text("django-allauth").unwrap());
    let time = Duration::from_millis(400);
    let world = World::in_time(&alpha.url, recipe, "methods = ['password']", time).await;
    let mut slow = TcpStream::connect(world.portal.trim_start_matches("http://")).await.unwrap();
    let head = "POST /homeward/login HTTP/1.1\r\nhost: alpha.example\r\ncontent-length: 100\r\n\
                content-type: application/x-www-form-urlencoded\r\n\r\nticket=any";
    let begun = Instant::now();
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let answered = tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut answer)).await;
    answered.expect("it is waited for, or the connection goes on").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&answer));
    assert!(begun.elapsed() >= time);
}
