//! The whole of applying, against a small application: an HTTP server that shows whichever client id its "reload" read.
