use honeygraph_chain::peer::PeerFault;

use super::*;

#[test]
fn strangers_choose_no_label() {
    let metrics = Metrics::new();
    for _ in 0..3 {
        let fault = RequestOutcome::Fault(PeerFault::WrongHash);
        metrics.count_peer_request(PeerLabel::Discovered, fault);
    }
    let text = metrics.encode().unwrap();
    let line = "honeygraph_peer_requests_total{peer=\"discovered\",outcome=\"wrong_hash\"} 3";
    assert!(text.contains(line), "{text}");
}

#[test]
fn the_head_is_as_old_as_its_last_change() {
    let clock = head_clock::HeadClock::default();
    let [seven, eight] = [7, 8].map(|number| honeygraph_chain::BlockNumber::try_from(number).unwrap());
    assert_eq!(clock.since(seven, 100), 100);
    assert_eq!(clock.since(seven, 160), 100);
    assert_eq!(clock.since(eight, 170), 170);
}

/// The names that the code gives to metrics, as the page has them.
fn names_in_code() -> Vec<String> {
    let code = [include_str!("mod.rs"), include_str!("collector.rs")].concat();
    let calls = [
        (".register(", ""),
        (".register_with_unit(", "_seconds"),
        (".gauge(", ""),
        (".gauges(", ""),
        (".counter(", ""),
    ];
    let mut names: Vec<_> = calls
        .iter()
        .flat_map(|(call, unit)| {
            code.split(call).skip(1).filter_map(move |after| {
                let name = after.trim_start().strip_prefix('"')?.split('"').next()?;
                Some(format!("{name}{unit}"))
            })
        })
        .collect();
    names.sort();
    names
}

#[test]
fn the_page_has_every_metric_and_no_other() {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `honeygraph_"));
    let mut described: Vec<_> = rows
        .map(|row| {
            let name = row.split(['`', '{']).next().unwrap_or_default();
            // The endings are added where a counter or an information is written.
            let name = name.strip_suffix("_total").unwrap_or(name);
            name.strip_suffix("_info").unwrap_or(name).to_owned()
        })
        .collect();
    described.sort();
    assert_eq!(described, names_in_code());
}
