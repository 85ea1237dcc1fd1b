//! The data of records as values, in the form in which checks expect them.

use std::borrow::Cow;

use hickory_proto::rr::{Name, RData, Record};
use model::record::{Field, RecordType, RecordValue};

/// The value of `record`; `None` when it is of another type.
pub(super) fn value(record: &Record, kind: RecordType) -> Option<RecordValue> {
    let number = |number: u16| Field::Number(number.into());
    Some(match (&record.data, kind) {
        (RData::A(a), RecordType::A) => RecordValue::of(&[Field::Address(a.0.into())]),
        (RData::AAAA(aaaa), RecordType::Aaaa) => RecordValue::of(&[Field::Address(aaaa.0.into())]),
        (RData::CNAME(target), RecordType::Cname) => RecordValue::of(&[name(&target.0)]),
        (RData::NS(server), RecordType::Ns) => RecordValue::of(&[name(&server.0)]),
        (RData::PTR(host), RecordType::Ptr) => RecordValue::of(&[name(&host.0)]),
        (RData::MX(mx), RecordType::Mx) => {
            RecordValue::of(&[number(mx.preference), name(&mx.exchange)])
        }
        (RData::SRV(srv), RecordType::Srv) => RecordValue::of(&[
            number(srv.priority),
            number(srv.weight),
            number(srv.port),
            name(&srv.target),
        ]),
        (RData::TXT(txt), RecordType::Txt) => {
            RecordValue::of(&[Field::Text(txt.txt_data.concat().into())])
        }
        (RData::CAA(caa), RecordType::Caa) => RecordValue::of(&[
            Field::Number(caa.flags().into()),
            Field::Word(caa.tag.as_bytes().into()),
            Field::Quoted((&caa.value).into()),
        ]),
        (RData::SOA(soa), RecordType::Soa) => RecordValue::of(&[
            name(&soa.mname),
            name(&soa.rname),
            Field::Number(soa.serial),
            Field::Number(soa.refresh.cast_unsigned()),
            Field::Number(soa.retry.cast_unsigned()),
            Field::Number(soa.expire.cast_unsigned()),
            Field::Number(soa.minimum),
        ]),
        _ => return None,
    })
}

fn name(name: &Name) -> Field<'_> {
    Field::Name(name.iter().map(Cow::Borrowed).collect())
}
