//! The enums of the schema as PostgreSQL's driver reads and writes them. The words themselves ([`crate::domain`]) know no
//! database; here each has a twin that does, and the compiler holds the two together, variant by variant.

use crate::domain;

macro_rules! enums {
    ($($(#[$doc:meta])* $name:ident = $in_schema:literal { $($variant:ident)* })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
        #[sqlx(type_name = $in_schema, rename_all = "lowercase")]
        pub enum $name { $($variant),* }

        impl From<domain::$name> for $name {
            fn from(word: domain::$name) -> Self {
                match word { $(domain::$name::$variant => Self::$variant),* }
            }
        }

        impl From<$name> for domain::$name {
            fn from(stored: $name) -> Self {
                match stored { $($name::$variant => Self::$variant),* }
            }
        }
    )* };
}

enums! {
    /// [`domain::ChatKind`].
    ChatKind = "chat_kind" { Direct Group Feed }
    /// [`domain::Role`].
    Role = "member_role" { Member Admin }
    /// [`domain::Class`].
    Class = "inbox_class" { Chat Alert Event }
    /// [`domain::Status`].
    Status = "delivery_status" { Sent Delivered Read Failed Expired }
}
