use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn host(last: u8, name: &str) -> Host {
    Host {
        address: IpAddr::from([10, 0, 0, last]),
        name: name.as_bytes().into(),
    }
}

fn arc(last: u8, name: &str) -> Arc<Host> {
    Arc::new(host(last, name))
}

/// One that is put on record, or is there.
fn add(hosts: &mut Hosts, host: &Arc<Host>, now: Instant) {
    if let Admission::New(_) = hosts.admit(host, HERE, 0, now) {
        hosts.came(host, true);
    }
}

/// Whether one could come; it does not.
fn is_new(hosts: &mut Hosts, host: &Arc<Host>, now: Instant) -> bool {
    let new = hosts.admit(host, HERE, 0, now) == Admission::New(host.clone());
    if new {
        hosts.came(host, false);
    }
    new
}

fn busy(hosts: &[Host]) -> HashSet<Arc<Host>> {
    hosts.iter().cloned().map(Arc::new).collect()
}

#[test]
fn one_is_known_by_address_and_name() {
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    assert!(is_new(&mut hosts, &arc(1, "a"), now));
    add(&mut hosts, &arc(1, "a"), now);
    assert_eq!(
        hosts.admit(&arc(1, "a"), HERE, 0, now),
        Admission::Known(arc(1, "a"))
    );
    assert!(is_new(&mut hosts, &arc(2, "a"), now));
    assert!(is_new(&mut hosts, &arc(1, "b"), now));
    assert!(hosts.untold().is_empty());
}

#[test]
fn a_name_has_a_domain_or_none() {
    for (a, b, same) in [
        ("a", "a", true),
        ("a", "A.example.org", true),
        ("a.example.org", "a", true),
        ("a", "ab", false),
        ("a.example.org", "a.example.com", false),
        ("", "a", false),
        ("", "", false),
    ] {
        assert_eq!(same_machine(a.as_bytes(), b.as_bytes()), same, "{a} {b}");
    }
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    add(&mut hosts, &arc(1, "a.example.org"), now);
    add(&mut hosts, &arc(2, "a"), now);
    let found = hosts.started(host(1, "").address, b"a", Some(3));
    assert_eq!(found.len(), 1);
    assert!(found.lost(&arc(1, "a.example.org")));
    assert!(!found.lost(&arc(2, "a")));
}

#[test]
fn who_has_locks_or_was_not_told_stays() {
    let now = Instant::now();
    let before = [(host(1, "untold"), HERE), (host(2, "told"), HERE)];
    let mut hosts = Hosts::of_before(before, now);
    add(&mut hosts, &arc(3, "busy"), now);
    hosts.told(&host(2, "told"));
    assert_eq!(hosts.untold(), [(arc(1, "untold"), HERE)]);
    let busy = busy(&[host(3, "busy")]);
    assert!(hosts.idle(&busy, now).is_empty());
    let idle = hosts.idle(&busy, now + IDLE);
    assert_eq!(idle, [arc(2, "told")]);
    assert_eq!(hosts.admit(&arc(2, "told"), HERE, 0, now), Admission::Later);
    assert!(!hosts.knows(&host(2, "told")));
    // Whether its record could be removed or not, the next lock writes one.
    hosts.gone(&idle);
    assert!(is_new(&mut hosts, &arc(2, "told"), now));
}

#[test]
fn there_is_an_end_to_them() {
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    for n in 0..MOST {
        let last = u8::try_from(n / OF_ADDRESS).unwrap_or(u8::MAX);
        if n == OF_ADDRESS {
            assert_eq!(hosts.admit(&arc(0, "more"), HERE, 0, now), Admission::Full);
            assert!(is_new(&mut hosts, &arc(1, "more"), now));
        }
        add(&mut hosts, &arc(last, &n.to_string()), now);
    }
    assert_eq!(hosts.admit(&arc(99, "more"), HERE, 0, now), Admission::Full);
    assert_eq!(
        hosts.admit(&arc(0, "7"), HERE, 0, now),
        Admission::Known(arc(0, "7"))
    );
}

#[test]
fn those_that_are_coming_count() {
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    let coming: Vec<_> = (0..OF_ADDRESS).map(|n| arc(0, &n.to_string())).collect();
    for host in &coming {
        assert_eq!(
            hosts.admit(host, HERE, 0, now),
            Admission::New(host.clone())
        );
        assert!(!hosts.knows(host));
    }
    assert_eq!(hosts.admit(&arc(0, "more"), HERE, 0, now), Admission::Full);
    assert!(hosts.without_locks(&HashSet::new()).is_empty());
    // Two requests of one, of which one fails.
    let [first, second, ..] = &coming[..] else {
        panic!()
    };
    assert_eq!(
        hosts.admit(first, HERE, 0, now),
        Admission::New(first.clone())
    );
    hosts.came(first, false);
    assert_eq!(hosts.admit(&arc(0, "more"), HERE, 0, now), Admission::Full);
    hosts.came(first, true);
    assert!(hosts.knows(first));
    hosts.came(second, false);
    assert!(is_new(&mut hosts, &arc(0, "more"), now));
}

/// What the locks of one refer to that says that it is in this state.
fn present(hosts: &mut Hosts, state: u32) -> Arc<Host> {
    match hosts.admit(&arc(1, "a"), HERE, state, Instant::now()) {
        Admission::Known(host) => host,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_one_got_since_it_started_it_keeps() {
    let (mut hosts, address) = (Hosts::default(), host(1, "").address);
    add(&mut hosts, &arc(1, "a"), Instant::now());
    let first = present(&mut hosts, 1);
    assert!(hosts.started(address, b"a", Some(3)).lost(&first));
    let third = present(&mut hosts, 3);
    for silent in [3, 0] {
        assert!(Arc::ptr_eq(&third, &present(&mut hosts, silent)));
    }
    // It says it again; and once more, with another name.
    for name in [&b"a"[..], b"a.example.org"] {
        let again = hosts.started(address, name, Some(3));
        assert!(again.lost(&first) && !again.lost(&third));
    }
    // It locks before it says that it has started: what it had before goes.
    let fifth = present(&mut hosts, 5);
    let late = hosts.started(address, b"a", Some(5));
    assert!(late.lost(&third) && !late.lost(&fifth));
    // These say it without a state.
    assert!(hosts.started(address, b"a", None).lost(&fifth));
    let sixth = present(&mut hosts, 5);
    assert!(hosts.started(address, b"a", Some(0)).lost(&sixth));
}
