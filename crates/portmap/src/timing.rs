//! How long everything may take.

use std::time::Duration;

/// How long everything may take, and how often it is done.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Waits after each sending of a PCP or NAT-PMP request. RFC 6886 begins with 250 ms and doubles; after three a home
    /// network has answered or never will, and a network without such a gateway is known after 1.75 s.
    pub attempts: Vec<Duration>,
    /// How long answers to an SSDP search are awaited. A device may take MX seconds; ours asks for 1.
    pub search: Duration,
    /// How long one HTTP exchange with an IGD may take. Small routers take a second to fork a CGI.
    pub http: Duration,
    /// How long a better protocol may leave a worse one waiting that is known to be there already.
    pub grace: Duration,
    /// The lifetime that is asked for: RFC 6886 §3.3 recommends two hours.
    pub lifetime: Duration,
    /// The shortest time to a renewal, whatever lifetime a gateway grants.
    pub renew_min: Duration,
    /// How often the gateway's epoch and the default route are looked at while a mapping is held.
    pub watch: Duration,
    /// How often a network without a gateway that helps is asked again. Routers get rebooted and settings changed.
    pub retry: Duration,
    /// How often a machine without a default route looks for one: no packet is sent for it.
    pub look: Duration,
    /// The wait before a refuted mapping is made again, doubled each time.
    pub refuted: Duration,
    /// How long giving everything back may take.
    pub release: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            attempts: [250, 500, 1000].map(Duration::from_millis).into(),
            search: Duration::from_secs(2),
            http: Duration::from_secs(3),
            grace: Duration::from_millis(500),
            lifetime: Duration::from_secs(7200),
            renew_min: Duration::from_secs(5),
            watch: Duration::from_secs(60),
            retry: Duration::from_secs(600),
            look: Duration::from_secs(15),
            refuted: Duration::from_secs(2),
            // The program's own clean stop has as long.
            release: Duration::from_millis(1500),
        }
    }
}
