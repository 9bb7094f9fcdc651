//! Logs of all agents of a node at once.

use futures_util::future::join_all;
use futures_util::{AsyncBufReadExt, AsyncReadExt};
use honeygraph_crds::HoneygraphNode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio::sync::mpsc;

use super::Cluster;
use super::error::root_cause;
use crate::logs::MAX_LINE_BYTES;
use crate::sight::{agent_names, namespace, pod_of};

/// Lines that wait to be printed.
const LINES: usize = 256;

/// Which lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Goes on with lines as they are written.
    pub follow: bool,
    /// The lines of the container before, which ended.
    pub previous: bool,
    /// Lines from the end; all where it is not set.
    pub tail: Option<i64>,
    /// No line older than so many seconds.
    pub since_seconds: Option<i64>,
    /// The time before each line.
    pub timestamps: bool,
}

/// A line of an agent, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its name.
    pub agent: String,
    /// The line; the error is a sentence.
    pub text: Result<String, String>,
}

impl Cluster {
    /// The lines of all agents of a node as they come; ends when all logs have ended.
    pub fn logs(&self, node: &HoneygraphNode, options: &LogOptions) -> mpsc::Receiver<LogLine> {
        let (lines, receiver) = mpsc::channel(LINES);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace(node));
        let parameters = LogParams {
            container: Some("agent".to_owned()),
            follow: options.follow,
            previous: options.previous,
            tail_lines: options.tail,
            since_seconds: options.since_seconds,
            timestamps: options.timestamps,
            ..LogParams::default()
        };
        let agents: Vec<_> = agent_names(node)
            .into_iter()
            .map(|agent| of_agent(pods.clone(), agent, parameters.clone(), lines.clone()))
            .collect();
        tokio::spawn(join_all(agents));
        receiver
    }
}

async fn of_agent(pods: Api<Pod>, agent: String, parameters: LogParams, lines: mpsc::Sender<LogLine>) {
    let pod = pod_of(&agent);
    let ended = match pods.log_stream(&pod, &parameters).await {
        Err(error) => Err(refusal(&pod, &error)),
        Ok(stream) => {
            let mut stream = Box::pin(stream);
            loop {
                let mut line = Vec::new();
                // A line without an end comes in pieces.
                let mut piece = (&mut stream).take(MAX_LINE_BYTES as u64);
                match piece.read_until(b'\n', &mut line).await {
                    Ok(0) => break Ok(()),
                    Ok(_) => {
                        let text = Ok(String::from_utf8_lossy(&line).into_owned());
                        let agent = agent.clone();
                        if lines.send(LogLine { agent, text }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => break Err(format!("its log broke off ({})", root_cause(&error))),
                }
            }
        }
    };
    let text = match ended {
        Err(reason) => Err(reason),
        Ok(()) if parameters.follow => Err("its log has ended: the container stopped".to_owned()),
        Ok(()) => return,
    };
    // Nobody reads any more.
    let _ = lines.send(LogLine { agent, text }).await;
}

fn refusal(pod: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => match status.code {
            403 => {
                "you may not read its log: ask for get on pods/log, which the ClusterRole view has".to_owned()
            }
            404 => format!("there is no pod {pod}: see kubectl honeygraph status"),
            _ => status.message.clone(),
        },
        error => format!("no log ({})", root_cause(error)),
    }
}
