//! Ends a live stream with the right to it.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::Response,
};
use jiff::Timestamp;
use store::{Accounts, Opened};
use tokio::sync::watch;

use crate::{
    app::App,
    auth::{self, Who},
    error::blocking,
};

/// A wait for a moment that is far away is cut into pieces, because clocks are set.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// The secret of a request, and word of whatever may make it worth less, from before it was looked at.
pub struct Watch {
    secret: [u8; 32],
    changed: watch::Receiver<()>,
}

impl Watch {
    /// `None` where nobody signs in.
    pub fn of(app: &App, headers: &HeaderMap) -> Option<Watch> {
        let secret = auth::secret(headers).filter(|_| app.options.authentication)?;
        Some(Watch { secret: auth::secret_hash(secret), changed: app.credentials.subscribe() })
    }

    /// Lets the response go on for as long as the secret opens what it did for `who`.
    pub fn over(self, app: &App, who: Who, response: Response) -> Response {
        let accounts = app.accounts.clone();
        let lost = async move {
            let Watch { secret, mut changed } = self;
            loop {
                let accounts = accounts.clone();
                let looked = blocking(move || Ok(opened(&accounts, &secret)?)).await;
                // What cannot be read shows nothing to anybody.
                let Ok(Some(opened)) = looked else { break };
                let until = opened.until;
                // Whoever may do more comes back as such; whoever may do less has to.
                if Who::of(opened).as_ref() != Some(&who) {
                    break;
                }
                tokio::select! {
                    told = changed.changed() => if told.is_err() { break },
                    () = passed(until) => {}
                }
            }
        };
        let (parts, body) = response.into_parts();
        let stream = futures_util::StreamExt::take_until(body.into_data_stream(), Box::pin(lost));
        Response::from_parts(parts, Body::from_stream(stream))
    }
}

fn opened(accounts: &Accounts, secret: &[u8; 32]) -> store::Result<Option<Opened>> {
    accounts.open_secret(secret, Timestamp::now())
}

/// Resolves at that time; `None`: never.
async fn passed(until: Option<Timestamp>) {
    let Some(until) = until else { return std::future::pending().await };
    // A time that has passed is no unsigned duration.
    while let Ok(left) = Duration::try_from(until.duration_since(Timestamp::now())) {
        tokio::time::sleep(left.min(LONGEST_SLEEP) + Duration::from_millis(1)).await;
    }
}

pub fn is_live(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}
