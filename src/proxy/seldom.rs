//! A future beside a busy one in the same task: polled only when it was woken itself, not each time its neighbour is.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What ends a connection is ready once; the connection is polled several times for each request.
pub(super) struct Seldom<F> {
    inner: F,
    bell: Arc<Bell>,
    /// Rings the bell.
    ringer: Waker,
    /// Who is told, to see whether that changes without asking the bell.
    task: Option<Waker>,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl<F> Seldom<F> {
    pub(super) fn new(inner: F) -> Self {
        // Rung: the first poll is due.
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
        Self { inner, ringer: bell.clone().into(), bell, task: None }
    }
}

impl<F: Future + Unpin> Future for Seldom<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let me = &mut *self;
        if !me.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            // Before the bell is looked at: whoever rings it from now on tells this task.
            *me.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            me.task = Some(cx.waker().clone());
        }
        if !me.bell.rung.load(Ordering::Relaxed) || !me.bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        Pin::new(&mut me.inner).poll(&mut Context::from_waker(&me.ringer))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_inner_future_is_polled_when_it_was_woken_and_its_task_is_told() {
        let (polls, told) = (AtomicUsize::new(0), Mutex::new(None));
        let inner = std::pin::pin!(std::future::poll_fn(|cx| {
            *told.lock().unwrap() = Some(cx.waker().clone());
            if polls.fetch_add(1, Ordering::Relaxed) == 2 { Poll::Ready("ended") } else { Poll::Pending }
        }));
        let mut seldom = Seldom::new(inner);
        let tasks = [Arc::<Counted>::default(), Arc::default()];
        let wakers = tasks.each_ref().map(|task| Waker::from(task.clone()));
        let mut poll = |task: usize| Pin::new(&mut seldom).poll(&mut Context::from_waker(&wakers[task]));
        let wake = || told.lock().unwrap().take().unwrap().wake();
        for _ in 0..5 {
            assert_eq!((poll(0), polls.load(Ordering::Relaxed)), (Poll::Pending, 1));
        }
        wake();
        assert_eq!((poll(0), polls.load(Ordering::Relaxed)), (Poll::Pending, 2));
        // Polled by another task, and woken while nobody polls.
        assert_eq!(poll(1), Poll::Pending);
        wake();
        assert_eq!(tasks.each_ref().map(|t| t.0.load(Ordering::Relaxed)), [1, 1]);
        assert_eq!((poll(1), polls.load(Ordering::Relaxed)), (Poll::Ready("ended"), 3));
    }
}
