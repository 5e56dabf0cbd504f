//! An operation of OpenAPI: a method of a path, with what it takes and what it answers.
//!
//! Refusals are named by their codes; those that every request of its kind may meet are added here.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::http::idempotency::PATTERN;
use crate::protocol::Code;
use crate::protocol::schema::Schemas;
#[cfg(test)]
use crate::service::Right;

const JSON: &str = "application/json";

type Schema = fn(&mut Schemas) -> Value;
type Fields = fn(&mut Schemas) -> Vec<(String, Value, bool)>;

/// An operation.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    id: &'static str,
    summary: &'static str,
    access: Access,
    query: Option<Fields>,
    body: Option<Body>,
    answers: Vec<Answer>,
    codes: Vec<Code>,
    has_key: bool,
    links: Vec<Link>,
}

/// The callers that may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// All, without a token.
    Everybody,
    /// A user.
    User,
    /// A user, to whom the scope `events:write` opens more.
    Publisher,
    /// A user, whose token may have the scope `send`, too.
    Sender,
    /// An operator who looks.
    AdminReader,
    /// An operator.
    Admin,
}

#[derive(Debug, Clone, Copy)]
struct Body {
    is_required: bool,
    media: &'static str,
    schema: Schema,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    status: u16,
    about: &'static str,
    media: &'static str,
    schema: Option<Schema>,
}

/// An operation that goes on with what this one answers.
#[derive(Debug, Clone, Copy)]
struct Link {
    operation: &'static str,
    parameter: &'static str,
    field: &'static str,
}

impl Operation {
    /// An operation of users.
    pub(super) fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            access: Access::User,
            query: None,
            body: None,
            answers: Vec::new(),
            codes: Vec::new(),
            has_key: false,
            links: Vec::new(),
        }
    }

    pub(super) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    pub(super) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("post", path, id, summary)
    }

    /// It needs no token.
    pub(super) fn for_everybody(self) -> Self {
        Self { access: Access::Everybody, ..self }
    }

    /// The scope `events:write` opens more of it.
    pub(super) fn for_publishers(self) -> Self {
        Self { access: Access::Publisher, ..self }
    }

    /// A token with the scope `send` may do it, too.
    pub(super) fn for_senders(self) -> Self {
        Self { access: Access::Sender, ..self }
    }

    /// It takes the scope `admin` or `admin:read`.
    pub(super) fn for_admin_readers(self) -> Self {
        Self { access: Access::AdminReader, ..self }
    }

    /// It takes the scope `admin`.
    pub(super) fn for_admins(self) -> Self {
        Self { access: Access::Admin, ..self }
    }

    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(Schemas::fields::<T>), ..self }
    }

    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(Body { is_required: true, media: JSON, schema: Schemas::said::<T> }), ..self }
    }

    /// The body may be missing.
    pub(super) fn may_take<T: JsonSchema>(self) -> Self {
        Self { body: Some(Body { is_required: false, media: JSON, schema: Schemas::said::<T> }), ..self }
    }

    /// The body is text.
    pub(super) fn takes_text(self) -> Self {
        Self { body: Some(Body { is_required: true, media: "text/plain", schema: Schemas::said::<String> }), ..self }
    }

    /// The right that its token must give; none: it takes no token.
    #[cfg(test)]
    pub(super) const fn right(&self) -> Option<Right> {
        match self.access {
            Access::Everybody => None,
            Access::User => Some(Right::User),
            Access::Publisher => Some(Right::Publish),
            Access::Sender => Some(Right::Send),
            Access::AdminReader => Some(Right::Look),
            Access::Admin => Some(Right::Operate),
        }
    }

    /// A header `Idempotency-Key` may stand for the id.
    pub(super) fn with_key(self) -> Self {
        Self { has_key: true, ..self }
    }

    /// An answer in JSON.
    pub(super) fn answers<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answer(Answer { status, about, media: JSON, schema: Some(Schemas::told::<T>) })
    }

    /// An answer that is text.
    pub(super) fn answers_text(self, status: u16, about: &'static str, media: &'static str) -> Self {
        self.answer(Answer { status, about, media, schema: Some(Schemas::told::<String>) })
    }

    /// An answer that is a stream of server-sent events.
    pub(super) fn answers_events<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        self.answer(Answer { status, about, media: "text/event-stream", schema: Some(Schemas::told::<T>) })
    }

    /// An answer without a body.
    pub(super) fn answers_nothing(self, status: u16, about: &'static str) -> Self {
        self.answer(Answer { status, about, media: "", schema: None })
    }

    fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    /// It may be refused with these codes, beside those that every request of its kind may meet.
    pub(super) fn refuses(self, codes: &[Code]) -> Self {
        Self { codes: codes.to_vec(), ..self }
    }

    /// A field of its answer names what another operation is about.
    pub(super) fn leads_to(mut self, operation: &'static str, parameter: &'static str, field: &'static str) -> Self {
        self.links.push(Link { operation, parameter, field });
        self
    }

    /// The operation object.
    pub(super) fn described(&self, schemas: &mut Schemas) -> Value {
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.tag()],
            "parameters": self.parameters(schemas),
            "responses": self.responses(schemas),
            "security": self.security(),
        });
        if !self.codes.is_empty() {
            let names: Vec<String> = self.codes.iter().map(|code| format!("`{}`", code.as_str())).collect();
            described["description"] = format!("May be refused with {}.", names.join(", ")).into();
        }
        if let Some(Body { is_required, media, schema }) = self.body {
            described["requestBody"] = json!({"required": is_required, "content": {media: {"schema": schema(schemas)}}});
        }
        described
    }

    /// The first word of the path that tells what it is about.
    fn tag(&self) -> &'static str {
        let word = self.path.split('/').find(|word| !matches!(*word, "" | "v1" | "api"));
        word.filter(|_| self.path.matches('/').count() > 1).unwrap_or("node")
    }

    fn security(&self) -> Value {
        match self.access {
            Access::Everybody => json!([]),
            Access::User => json!([{"bearer": []}]),
            Access::Publisher => json!([{"bearer": []}, {"bearer": ["events:write"]}]),
            Access::Sender => json!([{"bearer": []}, {"bearer": ["send"]}]),
            Access::AdminReader => json!([{"bearer": ["admin:read"]}, {"bearer": ["admin"]}]),
            Access::Admin => json!([{"bearer": ["admin"]}]),
        }
    }

    fn parameters(&self, schemas: &mut Schemas) -> Vec<Value> {
        let names = self.path.split(['{', '}']).skip(1).step_by(2);
        let of_path =
            names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}}));
        let mut parameters: Vec<Value> = of_path.collect();
        for (name, mut schema, is_required) in self.query.map(|fields| fields(schemas)).unwrap_or_default() {
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({"name": name, "in": "query", "required": is_required, "schema": schema});
            if let Some(about) = about {
                parameter["description"] = about;
            }
            if parameter["schema"]["type"] == "array" {
                parameter["explode"] = false.into();
            }
            parameters.push(parameter);
        }
        if self.has_key {
            parameters.push(json!({
                "name": "Idempotency-Key",
                "in": "header",
                "required": false,
                "description": "Stands for the id where the body names none. A UUID is the id itself.",
                "schema": {"type": "string", "pattern": PATTERN},
            }));
        }
        parameters
    }

    fn responses(&self, schemas: &mut Schemas) -> Map<String, Value> {
        let mut responses = Map::new();
        for Answer { status, about, media, schema } in &self.answers {
            let mut response = json!({"description": about});
            if let Some(schema) = schema {
                response["content"] = json!({*media: {"schema": schema(schemas)}});
            }
            if !self.links.is_empty() {
                response["links"] = self.links();
            }
            responses.insert(status.to_string(), response);
        }
        for code in self.all_codes() {
            responses.insert(code.http().to_string(), json!({"$ref": format!("#/components/responses/{}", code.http())}));
        }
        responses
    }

    fn links(&self) -> Value {
        let link = |link: &Link| {
            let from = format!("$response.body#{}", link.field);
            (link.operation.to_owned(), json!({"operationId": link.operation, "parameters": {link.parameter: from}}))
        };
        self.links.iter().map(link).collect::<Map<_, _>>().into()
    }

    /// The codes of its own, and those of every request that brings a token, names something, or has a body.
    fn all_codes(&self) -> Vec<Code> {
        let mut codes = self.codes.clone();
        let own: BTreeSet<u16> = self.answers.iter().map(|answer| answer.status).collect();
        if self.access != Access::Everybody {
            codes.extend([Code::Invalid, Code::NotAuthenticated, Code::Unavailable, Code::Busy, Code::Internal]);
        }
        if matches!(self.access, Access::User | Access::Publisher | Access::Sender) {
            codes.push(Code::RateLimited);
        }
        // The scope of the token may not open it.
        if !matches!(self.access, Access::Everybody | Access::Sender) {
            codes.push(Code::Forbidden);
        }
        if self.body.is_some() {
            codes.extend([Code::BadFrame, Code::TooLarge, Code::UnsupportedEncoding]);
        }
        codes.retain(|code| !own.contains(&code.http()));
        codes
    }
}
