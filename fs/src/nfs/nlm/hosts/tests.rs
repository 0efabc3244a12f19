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

fn busy(hosts: &[Host]) -> HashSet<Arc<Host>> {
    hosts.iter().cloned().map(Arc::new).collect()
}

#[test]
fn one_is_known_by_address_and_name() {
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    assert_eq!(hosts.admit(&host(1, "a"), now), Admission::New);
    hosts.add(arc(1, "a"), HERE, now);
    assert_eq!(
        hosts.admit(&host(1, "a"), now),
        Admission::Known(arc(1, "a"))
    );
    assert_eq!(hosts.admit(&host(2, "a"), now), Admission::New);
    assert_eq!(hosts.admit(&host(1, "b"), now), Admission::New);
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
    hosts.add(arc(1, "a.example.org"), HERE, now);
    hosts.add(arc(2, "a"), HERE, now);
    let found = hosts.named(host(1, "").address, b"a");
    assert_eq!(found, HashSet::from([arc(1, "a.example.org")]));
}

#[test]
fn who_has_locks_or_was_not_told_stays() {
    let now = Instant::now();
    let before = [(host(1, "untold"), HERE), (host(2, "told"), HERE)];
    let mut hosts = Hosts::of_before(before, now);
    hosts.add(arc(3, "busy"), HERE, now);
    hosts.told(&host(2, "told"));
    assert_eq!(hosts.untold(), [(arc(1, "untold"), HERE)]);
    let busy = busy(&[host(3, "busy")]);
    assert!(hosts.idle(&busy, now).is_empty());
    let idle = hosts.idle(&busy, now + IDLE);
    assert_eq!(idle, [arc(2, "told")]);
    assert_eq!(hosts.admit(&host(2, "told"), now), Admission::Later);
    assert!(!hosts.knows(&host(2, "told")));
    hosts.gone(&idle, true);
    assert_eq!(
        hosts.admit(&host(2, "told"), now),
        Admission::Known(arc(2, "told"))
    );
    hosts.gone(&idle, false);
    assert_eq!(hosts.admit(&host(2, "told"), now), Admission::New);
}

#[test]
fn there_is_an_end_to_them() {
    let (mut hosts, now) = (Hosts::default(), Instant::now());
    for n in 0..MOST {
        let last = u8::try_from(n / OF_ADDRESS).unwrap_or(u8::MAX);
        if n == OF_ADDRESS {
            assert_eq!(hosts.admit(&host(0, "more"), now), Admission::Full);
            assert_eq!(hosts.admit(&host(1, "more"), now), Admission::New);
        }
        hosts.add(arc(last, &n.to_string()), HERE, now);
    }
    assert_eq!(hosts.admit(&host(99, "more"), now), Admission::Full);
    assert_eq!(
        hosts.admit(&host(0, "7"), now),
        Admission::Known(arc(0, "7"))
    );
}
