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
