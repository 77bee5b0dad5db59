//! How long a request is, for whoever wants to know before asking.

use std::sync::Arc;

use holdfast_llm::{Ask, Request, tokens};
use holdfast_storage::Caller;

use crate::{Coordinator, TurnError, route::features, session::blocking};

impl Coordinator {
    /// Tokens of a request, by the count of the model that would be asked first; by ours, which is near to most, where that
    /// cannot tell or nobody could be asked.
    ///
    /// # Errors
    /// [`TurnError::NoProvider`] and [`TurnError::UnknownModel`].
    pub async fn count_tokens(&self, caller: &Caller, asked: &str, request: Request) -> Result<u64, TurnError> {
        let choice = self.shared.catalog.load().choose(caller, asked)?;
        let request = Arc::new(request);
        let counting = Arc::clone(&request);
        let counted = blocking(move || tokens::count_request(&counting)).await?;
        let routed = self.route(caller, &choice, &request, &features(&request, counted)).await?;
        let Some(model) = routed.left.front() else { return Ok(counted) };
        let deadlines = self.shared.config.deadlines;
        let ask = Ask::new(request, deadlines);
        match model.count_tokens(&ask).await {
            Ok(told) => Ok(told.unwrap_or(counted)),
            Err(error) => {
                tracing::debug!(
                    reason = error.reason,
                    "the model {} did not count, so it was counted here",
                    model.spec().name
                );
                Ok(counted)
            }
        }
    }
}
