"""What the catalog says of a table, as SQL over its `:name`; mostly of one to be written to."""

# Begins a statement over `tree`: the table itself, its partitions, and what inherits from it.
TREE = """
with recursive tree as (
    select to_regclass(:name)::oid as oid
    union
    select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.oid
)
"""

COLUMNS = """
with recursive kind as (
    select a.attnum, a.atttypid as type, a.atttypmod as modifier,
           a.attnotnull as required, a.atthasdef or a.attidentity <> '' as has_default
    from pg_attribute a
    where a.attrelid = to_regclass(:name) and a.attnum > 0 and not a.attisdropped
    union all
    -- A domain's values travel as those of the type below it; the domain checks them, except that
    -- COPY leaves a column out without asking whether it may be NULL.
    select kind.attnum, t.typbasetype, t.typtypmod,
           kind.required or t.typnotnull, kind.has_default or t.typdefault is not null
    from kind join pg_type t on t.oid = kind.type
    where t.typtype = 'd'
)
select a.attname,
       format_type(kind.type, kind.modifier),
       kind.type,
       kind.required and not kind.has_default,
       a.attgenerated <> '' or a.attidentity = 'a',
       (select typreceive <> 0 from pg_type own where own.oid = a.atttypid)
from kind
join pg_type t on t.oid = kind.type and t.typtype <> 'd'
join pg_attribute a on a.attrelid = to_regclass(:name) and a.attnum = kind.attnum
order by a.attnum
"""

# Names and types alone, for a sixth of that price. Of a domain over another domain, which is rare,
# the type is not the one that `COLUMNS` has.
TYPES = """
select a.attname, case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod)
                                 else format_type(a.atttypid, a.atttypmod) end
from pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = to_regclass(:name) and a.attnum > 0 and not a.attisdropped
"""

DEFAULTS = """
select a.attname, pg_get_expr(d.adbin, d.adrelid)
from pg_attribute a
join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = to_regclass(:name) and a.attgenerated = ''
union all
select a.attname, format('nextval(%L::regclass)', pg_get_serial_sequence(:name, a.attname))
from pg_attribute a
where a.attrelid = to_regclass(:name) and a.attidentity = 'd'
"""

# What the target asks of a row by itself: columns, whether they are NOT NULL, a CHECK as SQL. One
# of whole rows (its key has the number 0) is of the target's own row type, which a stage has not.
CHECKS = """
select array[a.attname::text], true, null::text
from pg_attribute a
where a.attrelid = to_regclass(:name) and a.attnum > 0 and a.attnotnull and not a.attisdropped
union all
select (select array_agg(a.attname::text) from pg_attribute a
        where a.attrelid = c.conrelid and a.attnum = any(c.conkey)),
       false, format('constraint %I ', c.conname) || pg_get_constraintdef(c.oid)
from pg_constraint c
where c.conrelid = to_regclass(:name) and c.contype = 'c' and c.conkey <> '{}'
and 0 <> all(c.conkey)
"""

# What a relation takes, by itself or by a trigger or rule; a sequence or a materialized view takes
# nothing. Source: PostgreSQL source, rewriteHandler.c, relation_is_updatable(); nodes.h, CmdType.
TAKEN = """
select pg_relation_is_updatable(oid, true) from pg_class
where oid = to_regclass(:name) and relkind <> 'f'
"""
EVENTS = {"update": 1 << 2, "insert": 1 << 3, "delete": 1 << 4}

# A foreign table among those that rows may go to, or be deleted from. What is done there commits on
# its own server, before the transaction that has the claim does.
# Source: PostgreSQL documentation, "postgres_fdw", "Transaction Management".
FOREIGN = f"""
{TREE}
select c.oid::regclass::text from tree join pg_class c on c.oid = tree.oid and c.relkind = 'f'
order by 1 limit 1
"""

# Whether there is a table that recovery from a crash empties among those that rows may go to.
UNLOGGED = f"""
{TREE}
select exists (
    select from tree join pg_class c on c.oid = tree.oid
    where c.relpersistence = 'u' and c.relkind = 'r'
)
"""

# A view without what COPY asks for. Bits of tgtype: for each row 1, insert 4, instead 64.
TAKES_NO_COPY = """
select 1 from pg_class c where c.oid = to_regclass(:name) and c.relkind = 'v'
and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgtype & 69 = 69)
"""
