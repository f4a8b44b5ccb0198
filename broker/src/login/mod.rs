//! stub
#[derive(Debug)]
pub struct Login;
#[derive(Debug, thiserror::Error)]
pub enum LoginError {}
