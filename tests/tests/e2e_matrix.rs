//! NATs against NATs in the kernel lab. The pairs are drawn by a seed, so that every kind occurs on both sides in every run and
//! runs differ; `STUNFWD_MATRIX_SEED` repeats one. `cargo run -p stunfwd-tests --bin matrix -- --all` runs every pair.

use stunfwd_tests::{
    lab,
    matrix::{
        Scenario, draw,
        scenario::{NO_WAN_FIREWALL, ONE_CARRIER, SHARED_CARRIER, TWO_CARRIERS},
        table, trial,
    },
};

/// How many pairs each kind of client has: two of fourteen, and CI is done with all of them in four minutes.
const ROUNDS: usize = 2;

/// Tries all of them and names every one that is not as the oracle says.
fn hold(scenarios: impl Iterator<Item = Scenario>) {
    let mut failed = Vec::new();
    for scenario in scenarios {
        let row = trial::run(scenario, trial::Options::default());
        eprintln!("{}", table::line(&row));
        if !row.faults.is_empty() {
            eprintln!("{}", row.log_tails());
            failed.push(table::line(&row));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn hold_all(texts: &[&str]) {
    lab::test(|| hold(texts.iter().map(|text| text.parse().expect("a scenario"))));
}

/// A client behind the kind of that row, with the servers that the seed draws.
fn hold_drawn(row: usize) {
    lab::test(|| {
        let seed = draw::seed();
        eprintln!("{}={seed} draws these pairs again", draw::SEED);
        let rounds = draw::rounds(seed).into_iter().take(ROUNDS);
        hold(rounds.map(|round| round[row]));
    });
}

#[test]
fn a_client_without_nat_meets_drawn_servers() {
    hold_drawn(0);
}

#[test]
fn a_client_behind_a_host_firewall_meets_drawn_servers() {
    hold_drawn(1);
}

#[test]
fn a_client_behind_a_full_cone_meets_drawn_servers() {
    hold_drawn(2);
}

#[test]
fn a_client_behind_an_address_restricted_cone_meets_drawn_servers() {
    hold_drawn(3);
}

#[test]
fn a_client_behind_a_port_restricted_cone_meets_drawn_servers() {
    hold_drawn(4);
}

#[test]
fn a_client_behind_a_port_restricted_cone_with_random_ports_meets_drawn_servers() {
    hold_drawn(5);
}

#[test]
fn a_client_behind_a_sequential_nat_meets_drawn_servers() {
    hold_drawn(6);
}

#[test]
fn a_client_behind_a_nat_that_counts_by_two_meets_drawn_servers() {
    hold_drawn(7);
}

#[test]
fn a_client_with_a_block_of_ports_meets_drawn_servers() {
    hold_drawn(8);
}

#[test]
fn a_client_behind_an_address_dependent_nat_meets_drawn_servers() {
    hold_drawn(9);
}

#[test]
fn a_client_behind_a_symmetric_nat_meets_drawn_servers() {
    hold_drawn(10);
}

#[test]
fn a_client_with_ipv6_behind_a_firewall_meets_drawn_servers() {
    hold_drawn(11);
}

#[test]
fn a_client_whose_router_opens_ports_meets_drawn_servers() {
    hold_drawn(12);
}

#[test]
fn a_client_with_blocked_udp_meets_drawn_servers() {
    hold_drawn(13);
}

#[test]
fn two_homes_with_ipv6_firewalls_meet_over_ipv6() {
    hold_all(&["symmetric+ipv6,symmetric+ipv6"]);
}

#[test]
fn a_carrier_in_front_of_one_home_makes_the_worse_of_the_two() {
    hold_all(&ONE_CARRIER);
}

#[test]
fn carriers_in_front_of_both_homes_make_the_worse_of_all() {
    hold_all(&TWO_CARRIERS);
}

#[test]
fn a_shared_carrier_is_passed_directly_only_where_it_turns_packets_round() {
    hold_all(&SHARED_CARRIER);
}

#[test]
fn a_router_that_confirms_early_packets_is_no_obstacle() {
    hold_all(&NO_WAN_FIREWALL);
}
