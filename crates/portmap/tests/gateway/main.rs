//! The mapper against gateways on loopback: honest ones, silent ones, ones that refuse, lie, forget and talk nonsense.
//!
//! On other systems only 127.0.0.1 is loopback.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail loudly too")]

mod fake;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portmap::{
    Gateway, Gateways, Mapping, PortMapper, PortMapperEvent, Presence, Protocol, Timing,
    probe_presence,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use fake::{Fake, Nature, Owner, mute};

/// How long anything may take on loopback, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// Times that let a test see in a second what takes hours.
fn quick() -> Timing {
    Timing {
        attempts: [50, 100, 200].map(Duration::from_millis).into(),
        search: Duration::from_millis(700),
        http: Duration::from_secs(1),
        grace: Duration::from_millis(200),
        renew_min: Duration::from_millis(200),
        watch: Duration::from_millis(200),
        retry: Duration::from_millis(500),
        look: Duration::from_millis(100),
        refuted: Duration::from_millis(50),
        ..Timing::default()
    }
}

/// A mapper with what it reported.
struct Bench {
    mapper: PortMapper,
    events_rx: mpsc::Receiver<PortMapperEvent>,
    presence: Presence,
    mappings: Vec<Mapping>,
    gave_up: usize,
}

impl Bench {
    fn start(port: u16, gateways: Gateways, timing: &Timing) -> Self {
        let (events_tx, events_rx) = mpsc::channel(64);
        let base = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let mapper =
            PortMapper::spawn_with(&Handle::current(), &[base], events_tx, &gateways, timing);
        Self {
            mapper,
            events_rx,
            presence: Presence::default(),
            mappings: Vec::new(),
            gave_up: 0,
        }
    }

    /// Reads events until what was reported is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !wanted(self) {
            let event = tokio::time::timeout_at(end, self.events_rx.recv()).await;
            let event = event.unwrap_or_else(|_| {
                panic!("{what}: not seen; {:?} {:?}", self.presence, self.mappings)
            });
            self.note(event.unwrap());
        }
    }

    async fn mapping(&mut self) -> Mapping {
        self.until("a mapping", |bench| !bench.mappings.is_empty())
            .await;
        self.mappings[0]
    }

    /// Reads events for a time.
    async fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events_rx.recv()).await {
            self.note(event);
        }
    }

    fn note(&mut self, event: PortMapperEvent) {
        match event {
            PortMapperEvent::Presence(presence) => self.presence = presence,
            PortMapperEvent::Mappings(mappings) => self.mappings = mappings,
            PortMapperEvent::GaveUp(_) => self.gave_up += 1,
            _ => panic!("{event:?}"),
        }
    }

    /// Stops, and returns how long that took.
    async fn release(self) -> Duration {
        let begun = Instant::now();
        self.mapper.release().await;
        begun.elapsed()
    }
}

fn at(fake: &Fake) -> Gateways {
    let gateway = fake.gateway();
    Gateways::from_fn(move || vec![gateway])
}

/// Waits until a gateway is as wanted.
async fn until(what: &str, wanted: impl Fn() -> bool) {
    let wait = async {
        while !wanted() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: not seen");
}

/// What is held at each protocol alone: taken with the socket's own port, and given back.
async fn takes_and_gives_back(number: u8, nature: Nature, protocol: Protocol, delete: &str) {
    let fake = Fake::start(number, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let mapping = bench.mapping().await;
    assert_eq!(mapping.protocol, protocol);
    assert_eq!(mapping.base, "0.0.0.0:41000".parse().unwrap());
    assert_eq!(mapping.external, "203.0.113.77:41000".parse().unwrap());
    let held: Vec<_> = fake
        .state()
        .mappings
        .iter()
        .map(|(port, it)| (*port, it.0))
        .collect();
    assert_eq!(held, [(41000, 41000)]);
    let taken = bench.release().await;
    assert!(taken < Duration::from_millis(1500), "{taken:?}");
    assert!(fake.state().mappings.is_empty());
    assert_eq!(fake.state().count(delete), 1);
}

#[tokio::test]
async fn pcp_is_preferred_where_there_is_everything() {
    takes_and_gives_back(1, Nature::default(), Protocol::Pcp, "pcp-delete").await;
}

#[tokio::test]
async fn a_gateway_that_answers_pcp_with_its_own_version_is_asked_by_nat_pmp() {
    let nature = Nature {
        nat_pmp: true,
        ..mute()
    };
    takes_and_gives_back(2, nature, Protocol::NatPmp, "pmp-delete").await;
}

#[tokio::test]
async fn an_igd_alone_is_asked_by_upnp() {
    let nature = Nature {
        upnp: true,
        ..mute()
    };
    takes_and_gives_back(3, nature, Protocol::Upnp, "DeletePortMapping").await;
}

#[tokio::test]
async fn what_the_gateway_speaks_is_reported_though_one_protocol_is_enough() {
    let fake = Fake::start(4, Nature::default()).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let all = Presence {
        pcp: Some(true),
        nat_pmp: Some(true),
        upnp: Some(true),
        external_ip: Some(Ipv4Addr::new(203, 0, 113, 77).into()),
    };
    bench
        .until("all three", |bench| bench.presence == all)
        .await;
    let asked = probe_presence(&at(&fake), &quick()).await;
    assert_eq!(asked, all);
    bench.release().await;
}

#[tokio::test]
async fn a_silent_gateway_is_known_to_be_none_and_holds_nothing_up() {
    let fake = Fake::start(5, mute()).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let absent = |bench: &Bench| {
        [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp]
            .iter()
            .all(|protocol| bench.presence.of(*protocol) == Some(false))
    };
    bench.until("that there is none", absent).await;
    assert!(bench.mappings.is_empty());
    let taken = bench.release().await;
    assert!(taken < Duration::from_millis(500), "{taken:?}");
}

#[tokio::test]
async fn a_machine_without_a_gateway_has_none_of_the_protocols_at_once() {
    let mut bench = Bench::start(41000, Gateways::from_fn(Vec::new), &quick());
    bench
        .until("absence", |bench| bench.presence.upnp == Some(false))
        .await;
    bench.release().await;
    let asked = probe_presence(&Gateways::from_fn(Vec::new), &quick()).await;
    assert_eq!(asked.pcp, Some(false));
}

#[tokio::test]
async fn a_gateway_that_refuses_by_one_protocol_is_asked_by_the_next() {
    let nature = Nature {
        result: 2,
        ..Nature::default()
    };
    let fake = Fake::start(6, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    assert_eq!(bench.mapping().await.protocol, Protocol::Upnp);
    assert!(fake.state().count("pcp-map") >= 1 && fake.state().count("pmp-map") >= 1);
    bench.release().await;
}

#[tokio::test]
async fn a_short_lease_is_renewed_before_it_ends() {
    let nature = Nature {
        lifetime_secs: 1,
        ..Nature::default()
    };
    let fake = Fake::start(7, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let mapping = bench.mapping().await;
    bench.watch(Duration::from_millis(2300)).await;
    assert!(fake.state().count("pcp-map") >= 3, "{:?}", fake.state());
    assert_eq!(bench.mappings, [mapping]);
    bench.release().await;
}

#[tokio::test]
async fn a_gateway_that_was_restarted_is_asked_again_long_before_the_lease_ends() {
    for (number, nature) in [
        (8, Nature::default()),
        (
            9,
            Nature {
                nat_pmp: true,
                ..mute()
            },
        ),
    ] {
        let fake = Fake::start(number, nature).await;
        let mut bench = Bench::start(41000, at(&fake), &quick());
        let mapping = bench.mapping().await;
        fake.state().reboot();
        until("the mapping again", || {
            fake.state().mappings.contains_key(&41000)
        })
        .await;
        assert_eq!(bench.mappings, [mapping]);
        bench.release().await;
    }
}

#[tokio::test]
async fn an_outside_address_that_changed_is_reported() {
    let fake = Fake::start(
        10,
        Nature {
            nat_pmp: true,
            ..mute()
        },
    )
    .await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    bench.mapping().await;
    let new = Ipv4Addr::new(198, 51, 100, 3);
    fake.state().nature.external_ip = new;
    bench
        .until("the new address", |bench| {
            bench
                .mappings
                .first()
                .is_some_and(|it| it.external.ip() == new)
        })
        .await;
    bench.release().await;
}

#[tokio::test]
async fn a_refuted_mapping_is_made_again_elsewhere_and_given_up_after_three() {
    let fake = Fake::start(11, Nature::default()).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let mut seen: Vec<(u16, Protocol)> = Vec::new();
    for _ in 0..3 {
        let mapping = bench.mapping().await;
        seen.push((mapping.external.port(), mapping.protocol));
        bench.mapper.refuted(mapping.external);
        bench
            .until("its end", |bench| bench.mappings.is_empty())
            .await;
    }
    let ports: BTreeSet<u16> = seen.iter().map(|(port, _)| *port).collect();
    assert_eq!(ports.len(), 3, "{seen:?}");
    let protocols: Vec<Protocol> = seen.iter().map(|(_, protocol)| *protocol).collect();
    assert_eq!(protocols, [Protocol::Pcp, Protocol::Pcp, Protocol::NatPmp]);
    bench.until("giving up", |bench| bench.gave_up == 1).await;
    bench.watch(Duration::from_secs(1)).await;
    assert!(bench.mappings.is_empty() && fake.state().mappings.is_empty());
    // Another network is another chance.
    bench.mapper.network_changed();
    assert_eq!(bench.mapping().await.protocol, Protocol::Pcp);
    bench.release().await;
}

#[tokio::test]
async fn a_refuted_mapping_of_another_name_changes_nothing() {
    let fake = Fake::start(12, Nature::default()).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let mapping = bench.mapping().await;
    bench.mapper.refuted("203.0.113.77:1".parse().unwrap());
    bench.watch(Duration::from_millis(300)).await;
    assert_eq!(bench.mappings, [mapping]);
    bench.release().await;
}

#[tokio::test]
async fn a_gateway_with_a_private_outside_address_is_reported_and_not_asked_twice() {
    let outside = Ipv4Addr::new(100, 64, 3, 4);
    let nature = Nature {
        external_ip: outside,
        ..Nature::default()
    };
    let fake = Fake::start(13, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    let mapping = bench.mapping().await;
    assert_eq!(mapping.external.ip(), outside);
    bench
        .until("the double NAT", |bench| {
            bench.presence.external_ip == Some(outside.into())
        })
        .await;
    bench.mapper.refuted(mapping.external);
    bench.until("giving up", |bench| bench.gave_up == 1).await;
    assert_eq!(fake.state().count("pcp-map"), 1);
    bench.release().await;
}

#[tokio::test]
async fn an_igd_with_permanent_leases_only_gets_one_and_gets_it_back() {
    let nature = Nature {
        upnp: true,
        permanent_only: true,
        ..mute()
    };
    let fake = Fake::start(14, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    bench.mapping().await;
    let owner = fake.state().mappings[&41000].1;
    assert_eq!(owner, Owner::Upnp { lifetime_secs: 0 });
    bench.release().await;
    assert!(fake.state().mappings.is_empty());
}

#[tokio::test]
async fn a_port_that_is_somebody_elses_is_replaced_by_another() {
    for (number, upnp) in [(15, true), (16, false)] {
        let nature = Nature {
            upnp,
            pcp: !upnp,
            taken: [41000].into(),
            ..mute()
        };
        let fake = Fake::start(number, nature).await;
        let mut bench = Bench::start(41000, at(&fake), &quick());
        let mapping = bench.mapping().await;
        let port = mapping.external.port();
        assert_ne!(port, 41000);
        assert_eq!(fake.state().mappings[&port].0, 41000);
        bench.release().await;
    }
}

#[tokio::test]
async fn a_stranger_who_answers_the_search_first_is_not_heard() {
    let nature = Nature {
        upnp: true,
        stranger: Some(Ipv4Addr::new(127, 77, 17, 9)),
        ..mute()
    };
    let fake = Fake::start(17, nature).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    assert_eq!(bench.mapping().await.protocol, Protocol::Upnp);
    bench.release().await;
}

#[tokio::test]
async fn a_gateway_whose_description_is_elsewhere_is_no_igd() {
    let elsewhere = Fake::start(18, Nature::default()).await;
    let nature = Nature {
        upnp: true,
        location: Some("http://127.77.18.1:5000/root.xml".to_owned()),
        ..mute()
    };
    let fake = Fake::start(19, nature).await;
    let presence = probe_presence(&at(&fake), &quick()).await;
    assert_eq!(presence.upnp, Some(false));
    assert!(elsewhere.state().requests.is_empty());
}

#[tokio::test]
async fn nonsense_from_the_gateway_is_no_answer() {
    let nature = Nature {
        garbage: true,
        ..Nature::default()
    };
    let fake = Fake::start(20, nature).await;
    let presence = probe_presence(&at(&fake), &quick()).await;
    let none = [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp]
        .iter()
        .all(|protocol| presence.of(*protocol) == Some(false));
    assert!(none, "{presence:?}");
}

#[tokio::test]
async fn a_gateway_that_grants_no_time_or_no_address_grants_nothing() {
    for (number, nature) in [
        (
            21,
            Nature {
                lifetime_secs: 0,
                nat_pmp: false,
                upnp: false,
                ..Nature::default()
            },
        ),
        (
            22,
            Nature {
                external_ip: Ipv4Addr::UNSPECIFIED,
                ..Nature::default()
            },
        ),
    ] {
        let fake = Fake::start(number, nature).await;
        let mut bench = Bench::start(41000, at(&fake), &quick());
        until("a question", || fake.state().count("pcp-map") >= 1).await;
        bench.watch(Duration::from_millis(800)).await;
        assert!(bench.mappings.is_empty(), "{:?}", bench.mappings);
        bench.release().await;
        let state = fake.state();
        assert!(state.mappings.is_empty(), "{:?}", state.mappings);
    }
}

#[tokio::test]
async fn a_gateway_that_does_not_tell_its_address_is_asked_for_no_port_at_it() {
    let nature = Nature {
        nat_pmp: true,
        offline: true,
        ..mute()
    };
    let fake = Fake::start(27, nature).await;
    let bench = Bench::start(41000, at(&fake), &quick());
    // What it speaks is the first question, the mapping's address the second.
    until("a question", || fake.state().count("external-address") >= 2).await;
    bench.release().await;
    assert_eq!(fake.state().count("pmp-map"), 0);
}

#[tokio::test]
async fn a_mapping_that_an_igd_makes_and_does_not_tell_of_is_taken_back() {
    let nature = Nature {
        upnp: true,
        adds_silently: true,
        ..mute()
    };
    let fake = Fake::start(28, nature).await;
    let bench = Bench::start(41000, at(&fake), &quick());
    until("a deletion", || {
        fake.state().count("DeletePortMapping") >= 1
    })
    .await;
    assert!(fake.state().mappings.is_empty());
    bench.release().await;
}

#[tokio::test]
async fn a_gateway_that_stops_answering_does_not_hold_up_the_end() {
    let fake = Fake::start(23, Nature::default()).await;
    let mut bench = Bench::start(41000, at(&fake), &Timing::default());
    bench.mapping().await;
    fake.state().nature = mute();
    let taken = bench.release().await;
    assert!(taken <= Duration::from_millis(1700), "{taken:?}");
}

#[tokio::test]
async fn another_gateway_gets_the_mapping_when_the_network_changes() {
    let (home, office) = (
        Fake::start(24, Nature::default()).await,
        Fake::start(
            25,
            Nature {
                upnp: true,
                ..mute()
            },
        )
        .await,
    );
    let current: Arc<Mutex<Gateway>> = Arc::new(Mutex::new(home.gateway()));
    let gateways = Gateways::from_fn({
        let current = current.clone();
        move || vec![*current.lock().unwrap()]
    });
    let mut bench = Bench::start(41000, gateways, &quick());
    assert_eq!(bench.mapping().await.protocol, Protocol::Pcp);
    *current.lock().unwrap() = office.gateway();
    bench.mapper.network_changed();
    bench
        .until("the other gateway's", |bench| {
            bench
                .mappings
                .first()
                .is_some_and(|it| it.protocol == Protocol::Upnp)
        })
        .await;
    assert!(home.state().mappings.is_empty());
    bench
        .until("its protocols", |bench| bench.presence.pcp == Some(false))
        .await;
    bench.release().await;
}

#[tokio::test]
async fn a_mapper_that_is_dropped_gives_back_in_the_background() {
    let fake = Fake::start(26, Nature::default()).await;
    let mut bench = Bench::start(41000, at(&fake), &quick());
    bench.mapping().await;
    drop(bench);
    until("nothing held", || fake.state().mappings.is_empty()).await;
}
