//! `POST /api/v1/doctor`: what is wrong with what is stored, and putting it right.

use axum::{Json, extract::State};
use holdfast_knowledge::{Finding, FindingCode, Fix};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Server,
    error::Failure,
    input::{Authenticated, Body},
};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DoctorRequest")]
pub(crate) struct DoctorBody {
    /// Whether to put right what can be
    #[serde(default)]
    fix: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DoctorAnswer {
    findings: Vec<FindingAnswer>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub(crate) struct FindingAnswer {
    code: &'static str,
    detail: String,
    fixed: bool,
}

pub(crate) async fn run(
    State(server): State<Server>,
    Authenticated(caller): Authenticated,
    body: Body<DoctorBody>,
) -> Result<Json<DoctorAnswer>, Failure> {
    let fix = if body.value.fix { Fix::Yes } else { Fix::No };
    let mut findings = server.knowledge().doctor(&caller, fix).await?;
    findings.extend(server.coordinator().doctor().await?);
    let mut findings: Vec<FindingAnswer> = findings.into_iter().map(FindingAnswer::from).collect();
    let damaged = |detail| FindingAnswer { code: FindingCode::LearningDamaged.as_str(), detail, fixed: false };
    findings.extend(server.learning().doctor().await?.into_iter().map(damaged));
    Ok(Json(DoctorAnswer { findings }))
}

impl From<Finding> for FindingAnswer {
    fn from(finding: Finding) -> Self {
        Self { code: finding.code, detail: finding.detail, fixed: finding.fixed }
    }
}
