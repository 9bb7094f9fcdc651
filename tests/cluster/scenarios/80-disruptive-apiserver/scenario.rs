//! The API server does not answer for a minute: replicas go on, and the operator works again afterwards.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::installation::{install, operators_work};
use super::stage::Stage;
use super::three_regions::{agree, start};
use super::{Label, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "80-disruptive-apiserver",
    needs: Needs::Nodes,
    labels: &[Label::Disruptive],
    run,
};

/// How long it does not answer.
const AWAY: Duration = Duration::from_mins(1);

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let images = install(stage)?;
    stage.create_namespace()?;
    let first = start(stage, &images)?;
    agree(stage, first)?;
    let address = stage.run(&[
        "get",
        "pod",
        "asia-agent-0-0",
        "--output=jsonpath={.status.podIP}",
    ])?;
    let before = head(&address)?;
    stage.step("the API server does not answer for a minute", || {
        let cluster = stage.cluster()?;
        cluster.signal("kube-apiserver", Signal::STOP)?;
        let began = Instant::now();
        // The time itself is what is tried: leases end in it.
        std::thread::sleep(AWAY);
        cluster.signal("kube-apiserver", Signal::CONT)?;
        anyhow::ensure!(began.elapsed() >= AWAY, "it was shorter");
        Ok(())
    })?;
    stage.step("the replicas went on meanwhile", || {
        let now = head(&address)?;
        anyhow::ensure!(now > before + 60, "asia was at {before}, and is at {now}");
        Ok(())
    })?;
    stage.eventually("the API server answers", || stage.run(&["get", "nodes"]))?;
    operators_work(stage, Duration::from_mins(3))?;
    stage.step("a change is carried out", || {
        stage.run(&["scale", "honeygraphnode/europe", "--replicas=2"])
    })?;
    stage.eventually("europe has two agents", || {
        let pods = stage.run(&[
            "get",
            "pod",
            "europe-agent-1-0",
            "--output=jsonpath={.status.phase}",
        ])?;
        anyhow::ensure!(pods == "Running", "the second is {pods}");
        Ok(())
    })?;
    agree(stage, first)
}

/// The head that an agent tells, asked without the API server.
fn head(address: &str) -> anyhow::Result<u64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect((address, 3030))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET /api/sync/capabilities HTTP/1.1\r\nhost: asia\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let body: serde_json::Value = serde_json::from_str(body)?;
    body["head"]
        .as_u64()
        .ok_or_else(|| anyhow::anyhow!("no head in {answer}"))
}
