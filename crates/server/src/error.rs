use std::{borrow::Cow, time::Duration};

use api_types::ErrorBody;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use engine::EngineError;

/// Every answer that is not what was asked for: a status, a stable code, a sentence, a next step.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: Cow<'static, str>,
    pub detail: String,
    /// The same in Chinese, with what to do about it.
    pub zh: Option<String>,
    pub next_step: Option<Cow<'static, str>>,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
}

/// Goes with the response of an error, for the audit log.
#[derive(Debug, Clone)]
pub struct ErrorCode(pub Cow<'static, str>);

pub type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> ApiError {
        ApiError { status, code: code.into(), detail: detail.into(), zh: None, next_step: None, retry_after: None }
    }

    pub fn bad_request(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub fn invalid(detail: impl Into<String>, zh: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-request", detail).zh(zh)
    }

    pub fn not_found(what: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    pub fn task_not_found() -> ApiError {
        ApiError::not_found("Task not found")
            .zh("任务不存在，可能已被删除")
            .next("GET /api/v1/tasks lists the tasks there are")
    }

    pub fn conflict(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, code, detail)
    }

    pub fn unavailable(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    pub fn too_large(limit: u64) -> ApiError {
        let detail = format!("the request is larger than the {limit} bytes allowed here");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
            .zh(format!("请求超过了 {limit} 字节的上限，请减小数据量或提高上限"))
            .next("Send less, or raise the limit")
    }

    pub fn unauthorized(detail: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "sign-in", detail)
            .zh("需要登录：请在页面上登录，或在请求中带上令牌")
            .next("Sign in on the page or at /api/auth/login, or send a token as `Authorization: Bearer …`")
    }

    /// Something here is broken; the sentence goes into the log as well.
    pub fn internal(what: &str, error: impl std::fmt::Display) -> ApiError {
        tracing::error!("{what}: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("{what}: {error}"))
            .zh(format!("Studio 内部出错（{what}: {error}）；请查看数据目录中的 logs/studio.log"))
            .next("See logs/studio.log in the studio's home")
    }

    pub fn next(mut self, step: impl Into<Cow<'static, str>>) -> ApiError {
        self.next_step = Some(step.into());
        self
    }

    pub fn zh(mut self, sentence: impl Into<String>) -> ApiError {
        self.zh = Some(sentence.into());
        self
    }

    pub fn retry_after(mut self, wait: Duration) -> ApiError {
        self.retry_after = Some(wait);
        self
    }

    /// As the first generation says it: `detail` is Chinese where there is a Chinese sentence.
    pub fn in_chinese(mut self) -> ApiError {
        self.detail = self.zh.take().unwrap_or(self.detail);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let code = ErrorCode(self.code.clone());
        let body = ErrorBody {
            detail: self.detail,
            zh: self.zh,
            code: self.code.into_owned(),
            next_step: self.next_step.map(Cow::into_owned),
        };
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(code);
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        let detail = error.to_string();
        match error {
            EngineError::NotFound(_) => ApiError::task_not_found(),
            EngineError::NotRunning(_) => ApiError::conflict("not-running", detail).zh("任务已经结束，无法取消"),
            EngineError::StillActive(_) => {
                ApiError::conflict("still-active", detail).zh("无法删除运行中或排队中的任务，请先取消")
            }
            EngineError::NotHeld(_) => ApiError::conflict("not-held", detail).zh("任务没有被暂缓，无需放行"),
            EngineError::NotQueued(_) => ApiError::conflict("not-queued", detail)
                .zh("任务不在队列中，无法调整")
                .next("Only tasks that wait can be moved or held; see `sage queue`"),
            EngineError::OtherPriority(..) => ApiError::conflict("other-priority", detail)
                .zh("两个任务的优先级不同，优先级高的总是在前")
                .next("Change its priority first: sage queue priority ID high"),
            EngineError::Draining(by) => ApiError::unavailable("queue-draining", detail)
                .zh(format!("队列正在排空（由 {by} 设置），不接受新任务"))
                .next("Submit again later, or end it with `sage queue resume`"),
            EngineError::TooManyQueued { waiting, limit } => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "queue-quota", detail)
                    .zh(format!("您已有 {waiting} 个任务在排队，上限为 {limit} 个"))
                    .next("Wait until some have started, or cancel some")
            }
            EngineError::TooManyGpus { wanted, limit } => ApiError::new(StatusCode::FORBIDDEN, "gpu-quota", detail)
                .zh(format!("任务要求 {wanted} 块 GPU，而您最多可同时使用 {limit} 块，因此永远无法启动"))
                .next(format!("Submit it with at most {limit} GPUs, or ask the owner of the studio for more")),
            EngineError::NoDevice(_) => ApiError::new(StatusCode::NOT_FOUND, "device-unknown", detail)
                .zh("没有这个设备")
                .next("`sage gpu` lists the devices with their ids"),
            EngineError::ShuttingDown => ApiError::unavailable("shutting-down", detail)
                .zh("Studio 正在关闭，请在它重新启动后再试")
                .next("Try again when the studio is up"),
            EngineError::NotSaved(_) => ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "not-saved", detail)
                .zh("无法写入数据库，请检查 Studio 数据目录的剩余空间和权限")
                .next("Check the free space of the studio's home and its permissions"),
            EngineError::Store(_) => ApiError::internal("the database could not be read", detail),
        }
    }
}

impl From<store::StoreError> for ApiError {
    fn from(error: store::StoreError) -> ApiError {
        EngineError::from(error).into()
    }
}

/// Runs what may block, away from the threads that serve requests.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(ApiError::internal("a request failed", error)))
}
