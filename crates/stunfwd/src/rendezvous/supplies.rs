//! Which STUN servers and relays the signaling servers offer, asked again before credentials end.

use std::time::Duration;

use signal_client::{Info, RoomClient};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::publisher::OwnSlot;
use super::{PlaceId, RETRY_MAX, RETRY_MIN};
use crate::clock;

/// Servers are asked for again at least this often.
const INFO_INTERVAL: Duration = Duration::from_secs(3600);
/// However short credentials live, or wrong a clock is, nobody is asked more often than this.
const INFO_INTERVAL_MIN: Duration = Duration::from_secs(2);

/// What one signaling server offers; `None` until it has answered.
pub(crate) type Offer = Option<Info>;

/// Asks which servers there are until somebody answers, again when two thirds of the credentials' life are
/// over, when a relay has refused them, and whenever the watch has begun anew: a signaling server that was
/// restarted may have another secret for its relay.
pub(super) async fn ask_for_servers(
    place: PlaceId,
    client: &RoomClient,
    offers_tx: &watch::Sender<Vec<Offer>>,
    mut news_rx: watch::Receiver<OwnSlot>,
    mut renewals_rx: watch::Receiver<u64>,
) {
    let mut pause = RETRY_MIN;
    loop {
        let asked_at = Instant::now();
        let asked_in = news_rx.borrow().watches;
        renewals_rx.mark_unchanged();
        // The first watch begins beside the first question: no news to one that was answered.
        let (wait, answered) = match client.info().await {
            Ok(info) => {
                pause = RETRY_MIN;
                let wait = renewal_after(&info, clock::unix_millis() / 1000);
                offers_tx.send_if_modified(|offers| {
                    let Some(offer) = offers.get_mut(place.0) else {
                        return false;
                    };
                    let is_news = offer.as_ref() != Some(&info);
                    *offer = Some(info);
                    is_news
                });
                (wait, asked_in.max(1))
            }
            Err(error) => {
                debug!(%error, "signaling does not say which servers there are");
                (pause, asked_in)
            }
        };
        pause = (pause * 2).min(RETRY_MAX);
        tokio::select! {
            () = sleep(wait) => {}
            again = watch_began(&mut news_rx, answered) => {
                if !again {
                    return;
                }
                pause = RETRY_MIN;
            }
            refused = renewals_rx.changed() => {
                if refused.is_err() {
                    return;
                }
                debug!("a relay refuses its credentials: asking for newer ones");
                sleep_until(asked_at + INFO_INTERVAL_MIN).await;
            }
        }
    }
}

/// Waits for a watch after the one of that number; `false` when there will be none.
async fn watch_began(news_rx: &mut watch::Receiver<OwnSlot>, after: u64) -> bool {
    news_rx.wait_for(|own| own.watches > after).await.is_ok()
}

/// Returns when to ask again: at two thirds of the shortest life. Credentials that have ended already tell
/// that one of the two clocks is wrong; a relay that refuses them says so in time.
fn renewal_after(info: &Info, now_unix: u64) -> Duration {
    let lives = info.turn.iter().map(|server| server.expires_at_unix);
    let shortest = lives.min().and_then(|end| end.checked_sub(now_unix));
    match shortest {
        None | Some(0) => INFO_INTERVAL,
        Some(secs) => {
            (Duration::from_secs(secs.min(1 << 32)) * 2 / 3).clamp(INFO_INTERVAL_MIN, INFO_INTERVAL)
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_client::TurnServer;

    use super::*;

    fn offering(expiries: &[u64]) -> Info {
        let turn = expiries.iter().map(|expires_at_unix| TurnServer {
            url: "turn:192.0.2.1".to_owned(),
            username: String::new(),
            credential: String::new(),
            expires_at_unix: *expires_at_unix,
        });
        Info {
            version: String::new(),
            stun: Vec::new(),
            turn: turn.collect(),
        }
    }

    #[test]
    fn credentials_are_renewed_at_two_thirds_of_the_shortest_life_and_at_least_hourly() {
        let wait = |expiries: &[u64]| renewal_after(&offering(expiries), 1000).as_secs();
        assert_eq!(wait(&[]), 3600, "nothing to renew");
        assert_eq!(wait(&[1000 + 43_200]), 3600);
        assert_eq!(wait(&[1000 + 600, 1000 + 300]), 200);
        assert_eq!(wait(&[1001]), 2, "not a busy loop");
        assert_eq!(wait(&[500]), 3600, "a wrong clock is no busy loop either");
        assert_eq!(wait(&[u64::MAX]), 3600);
    }
}
