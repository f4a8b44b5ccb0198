//! What is counted as it happens: requests, calls, and what the store does. What can be looked at when somebody asks is
//! looked at then, by `metrics`: it costs a login nothing.
//!
//! Labels are routes, methods, codes and states of our own: nobody who asks can make one.

pub mod definitions;

use std::sync::Arc;
use std::time::Duration;

use homeward_telemetry::metrics::{Counter, Histogram, MetricError, Picture};

use crate::rate_limit::Met;

use definitions::{GRPC_REQUESTS, GRPC_TIME, HTTP_REQUESTS, HTTP_TIME, STORE_ERRORS, STORE_TIME};

/// Methods of HTTP that are counted by name; somebody could send any.
const HTTP_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];

/// What is counted as it happens.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    http_requests: Counter,
    http_time: Histogram,
    grpc_requests: Counter,
    grpc_time: Histogram,
    store_time: Histogram,
    store_errors: Counter,
    limits: Limits,
}

/// How often connections were too many: nobody was answered, so no request tells of it.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Of one network, at the listeners for browsers and applications.
    pub connections: Met,
    /// Of one network, at the agents' port, before the handshake.
    pub handshakes: Met,
    /// Of one network, or of all, that showed no certificate there.
    pub strangers: Met,
    /// Of one instance there.
    pub instances: Met,
}

impl Telemetry {
    /// Of a broker that has just started.
    ///
    /// # Errors
    /// When a metric is defined wrongly.
    pub fn new() -> Result<Self, MetricError> {
        let counted = Counted {
            http_requests: Counter::new(&HTTP_REQUESTS)?,
            http_time: Histogram::new(&HTTP_TIME)?,
            grpc_requests: Counter::new(&GRPC_REQUESTS)?,
            grpc_time: Histogram::new(&GRPC_TIME)?,
            store_time: Histogram::new(&STORE_TIME)?,
            store_errors: Counter::new(&STORE_ERRORS)?,
            limits: Limits::default(),
        };
        // What never happened is told as zero: an alert on the first error needs something to compare it with.
        for operation in ["get", "list", "commit"] {
            ["unavailable", "corrupt"].iter().for_each(|reason| counted.store_errors.add(&[operation, reason], 0));
        }
        Ok(Self(Arc::new(counted)))
    }

    /// A browser or an application was answered.
    pub fn http(&self, (route, method): (&str, &str), status: u16, time: Duration) {
        let method = HTTP_METHODS.iter().find(|known| **known == method).copied().unwrap_or("other");
        let mut digits = [0; 3];
        let status = three_digits(status, &mut digits);
        self.0.http_requests.count(&[route, method, status]);
        self.0.http_time.observe(&[route], time);
    }

    /// An agent or ops were answered.
    pub fn grpc(&self, method: &str, code: &str, time: Duration) {
        self.0.grpc_requests.count(&[method, code]);
        self.0.grpc_time.observe(&[method], time);
    }

    /// The store has done something, or says why not.
    pub fn store(&self, operation: &'static str, failed: Option<&'static str>, time: Duration) {
        self.0.store_time.observe(&[operation], time);
        if let Some(reason) = failed {
            self.0.store_errors.count(&[operation, reason]);
        }
    }

    /// Where it is counted that connections are too many.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Adds everything that was counted, but the limits, of which it does not know all.
    pub fn tell(&self, picture: &mut Picture) {
        let counted = &*self.0;
        picture.counted(&[&counted.http_requests, &counted.grpc_requests, &counted.store_errors]);
        picture.measured(&[&counted.http_time, &counted.grpc_time, &counted.store_time]);
    }
}

/// A status without an allocation: this is done for every request.
fn three_digits(status: u16, digits: &mut [u8; 3]) -> &str {
    for (digit, unit) in digits.iter_mut().zip([100, 10, 1]) {
        *digit = b'0' + u8::try_from(status / unit % 10).unwrap_or_default();
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_who_asks_makes_a_label() {
        let telemetry = Telemetry::new().unwrap();
        telemetry.http(("/token", "POST"), 200, Duration::from_millis(1));
        telemetry.http(("none", "BREW"), 404, Duration::from_millis(1));
        let mut picture = Picture::default();
        telemetry.tell(&mut picture);
        let text = picture.text().unwrap();
        assert!(text.contains("_total{method=\"POST\",route=\"/token\",status=\"200\"} 1"), "{text}");
        assert!(text.contains("_total{method=\"other\",route=\"none\",status=\"404\"} 1"), "{text}");
        assert!(text.contains("homeward_store_errors_total{operation=\"commit\",reason=\"unavailable\"} 0"), "{text}");
        assert!(text.contains("homeward_store_errors_total{operation=\"get\",reason=\"corrupt\"} 0"), "{text}");
    }
}
