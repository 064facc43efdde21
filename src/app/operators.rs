//! The operator's listeners and pages, in every phase in which they are ours.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::page;
use crate::admin::{self, Readiness, entrance};
use crate::metrics::Metrics;
use crate::net;
use crate::proxy::{Phase, Proxy};

/// One listener for an operator's pages: nobody else on this machine may share its address.
pub(super) fn bind(address: SocketAddr) -> io::Result<Vec<std::net::TcpListener>> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(vec![listener])
}

/// Serves an operator's listener in every phase in which it is ours.
pub(super) async fn serve(socket: std::net::TcpListener, mut phase: watch::Receiver<Phase>, pages: net::Handler) {
    // Without a sender the process is ending.
    while let Ok(Phase::Serving) = phase.wait_for(|p| *p == Phase::Serving || p.is_final()).await.map(|p| *p) {
        let Ok(listener) = socket.try_clone().and_then(TcpListener::from_std) else { return };
        net::serve(listener, pages.clone(), phase.wait_for(|p| *p != Phase::Serving)).await;
    }
}

/// The operator's pages; the computed gauges are brought up to date before each scrape.
pub(super) fn pages(metrics: Arc<Metrics>, readiness: Arc<Readiness>, proxy: Arc<Proxy>) -> net::Handler {
    let pages = admin::handler(metrics, readiness);
    Arc::new(move |request| {
        if request.uri().path() == "/metrics" {
            proxy.refresh_gauges();
        }
        pages(request)
    })
}

/// The operator's API and the page of approvals beside the others (S16): never on `listen.health`.
pub(super) fn with_api(pages: net::Handler, api: net::Handler, decide: net::Handler) -> net::Handler {
    Arc::new(move |request| match request.uri().path() {
        path if entrance::is_api(path) => api(request),
        path if page::is_page(path) => decide(request),
        _ => pages(request),
    })
}
