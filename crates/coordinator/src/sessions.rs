//! Sessions as their owner looks at them: listed, shown with what was said, removed. What they are for is in `session`.

use holdfast_storage::{
    Caller,
    sessions::{MESSAGES_MAX, Session},
};

use crate::{
    Coordinator, TurnError, record,
    session::{blocking, message_of},
};

/// Something that was said in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaidInSession {
    /// Its place in the session, from 1.
    pub number: u64,
    /// Who said it.
    pub role: String,
    /// What, as text: calls and results of tools are JSON text.
    pub text: String,
    /// Tokens it has.
    pub tokens: u64,
}

impl Coordinator {
    /// The caller's sessions, newest first, made before the one of that number.
    ///
    /// # Errors
    /// [`TurnError::Storage`].
    pub async fn sessions(
        &self,
        caller: &Caller,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Session>, TurnError> {
        let (storage, caller) = (self.shared.storage.clone(), caller.clone());
        Ok(blocking(move || storage.sessions(&caller, before, limit)).await??)
    }

    /// A session of the caller's, and what was said in it as far as that is kept.
    ///
    /// # Errors
    /// [`TurnError::SessionNotFound`] also for somebody else's.
    pub async fn session(&self, caller: &Caller, id: &str) -> Result<(Session, Vec<SaidInSession>), TurnError> {
        let (storage, caller, id) = (self.shared.storage.clone(), caller.clone(), id.to_owned());
        let read = move || {
            let session = storage.session(&caller, &id)?;
            storage.session_messages(&caller, &id, 0, MESSAGES_MAX).map(|messages| (session, messages))
        };
        let (session, messages) = blocking(read).await??;
        let said = messages.into_iter().map(|stored| {
            let message = stored.message;
            let text = message_of(&message.body).map(|said| record::words(&said.parts)).unwrap_or_default();
            SaidInSession { number: stored.number, role: message.role, text, tokens: message.tokens }
        });
        Ok((session, said.collect()))
    }

    /// Forgets a session of the caller's, with all that was said.
    ///
    /// # Errors
    /// [`TurnError::SessionNotFound`] also for somebody else's.
    pub async fn remove_session(&self, caller: &Caller, id: &str) -> Result<(), TurnError> {
        Ok(self.shared.storage.remove_session(caller, id).await?)
    }
}
