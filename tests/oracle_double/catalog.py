"""The data dictionary, as far as anybody asks for it: views over H2's own.

What they show is what `CREATE TABLE` said, in Oracle's words. Estimates are exact here, because
nobody gathers statistics.
"""

_SCHEMAS = "('INFORMATION_SCHEMA', 'PUBLIC')"

# H2's name of a type -> Oracle's. A DATE is a TIMESTAMP(0) to H2, and nothing else is.
_TYPE = """case
    when data_type = 'DECFLOAT' then 'NUMBER'
    when data_type in ('NUMERIC', 'INTEGER', 'BIGINT', 'SMALLINT') then 'NUMBER'
    when data_type = 'CHARACTER VARYING' then 'VARCHAR2'
    when data_type = 'CHARACTER' then 'CHAR'
    when data_type = 'CHARACTER LARGE OBJECT' then 'CLOB'
    when data_type = 'BINARY LARGE OBJECT' then 'BLOB'
    when data_type = 'BINARY VARYING' then 'RAW'
    when data_type = 'DOUBLE PRECISION' then 'BINARY_DOUBLE'
    when data_type = 'REAL' then 'BINARY_FLOAT'
    when data_type = 'TIMESTAMP' and datetime_precision = 0 then 'DATE'
    when data_type = 'TIMESTAMP' then 'TIMESTAMP(' || datetime_precision || ')'
    when data_type = 'TIMESTAMP WITH TIME ZONE'
        then 'TIMESTAMP(' || datetime_precision || ') WITH TIME ZONE'
    when data_type = 'INTERVAL' and interval_type = 'DAY TO SECOND'
        then 'INTERVAL DAY(9) TO SECOND(6)'
    when data_type = 'INTERVAL' then 'INTERVAL YEAR(2) TO MONTH'
    else data_type end"""

STATEMENTS = (
    "create table ORA$ANCHOR (X int)",
    "create table ORA$CHUNKS (TASK_OWNER varchar(128), TASK_NAME varchar(128), CHUNK_ID int,"
    " STATUS varchar(20), START_ROWID varchar(18), END_ROWID varchar(18))",
    "create table ORA$EXTENTS (OWNER varchar(128), SEGMENT_NAME varchar(128),"
    " PARTITION_NAME varchar(128), SEGMENT_TYPE varchar(20), EXTENT_ID int, RELATIVE_FNO int,"
    " BLOCK_ID bigint, BLOCKS int)",
    "create table ORA$OBJECTS (OWNER varchar(128), OBJECT_NAME varchar(128), DATA_OBJECT_ID int)",
    "create table ORA$SYNONYMS (OWNER varchar(128), SYNONYM_NAME varchar(128),"
    " TABLE_OWNER varchar(128), TABLE_NAME varchar(128), DB_LINK varchar(128))",
    "create table ORA$PRIVS (GRANTEE varchar(128), TABLE_SCHEMA varchar(128),"
    " TABLE_NAME varchar(128), PRIVILEGE varchar(40))",
    "create view DBA_EXTENTS as select * from ORA$EXTENTS",
    "create view USER_PARALLEL_EXECUTE_CHUNKS as select * from ORA$CHUNKS",
    "create view ALL_SYNONYMS as select * from ORA$SYNONYMS",
    "create view ALL_TAB_PRIVS as select * from ORA$PRIVS",
    "create view SESSION_PRIVS as select 'CREATE SESSION' as PRIVILEGE from DUAL",
    f"""create view ALL_OBJECTS as
    select t.table_schema as OWNER, t.table_name as OBJECT_NAME, cast(null as varchar) as
    SUBOBJECT_NAME, case t.table_type when 'VIEW' then 'VIEW' else 'TABLE' end as OBJECT_TYPE,
    coalesce(o.data_object_id, 70001) as DATA_OBJECT_ID
    from information_schema.tables t left join ORA$OBJECTS o
    on o.owner = t.table_schema and o.object_name = t.table_name
    where t.table_schema not in {_SCHEMAS}""",
    "create view DBA_OBJECTS as select * from ALL_OBJECTS where OBJECT_TYPE = 'TABLE'",
    f"""create view ALL_TABLES as
    select table_schema as OWNER, table_name as TABLE_NAME, row_count_estimate as NUM_ROWS,
    cast(row_count_estimate / 400 + 1 as bigint) as BLOCKS, 100 as AVG_ROW_LEN,
    cast(null as varchar) as IOT_TYPE, cast(null as varchar) as CLUSTER_NAME, 'N' as TEMPORARY
    from information_schema.tables
    where table_schema not in {_SCHEMAS} and table_type = 'BASE TABLE'""",
    f"""create view ALL_TAB_COLS as
    select table_schema as OWNER, table_name as TABLE_NAME, column_name as COLUMN_NAME,
    {_TYPE} as DATA_TYPE, ordinal_position as COLUMN_ID,
    case when data_type = 'NUMERIC' then numeric_precision end as DATA_PRECISION,
    case when data_type = 'NUMERIC' then numeric_scale
    when data_type in ('INTEGER', 'BIGINT', 'SMALLINT') then 0 end as DATA_SCALE,
    character_maximum_length as CHAR_LENGTH, 'C' as CHAR_USED,
    coalesce(character_octet_length, 0) as DATA_LENGTH,
    case is_nullable when 'YES' then 'Y' else 'N' end as NULLABLE,
    length(column_default) as DEFAULT_LENGTH, column_default as DATA_DEFAULT,
    case is_generated when 'ALWAYS' then 'YES' else 'NO' end as VIRTUAL_COLUMN,
    case when is_visible then 'NO' else 'YES' end as HIDDEN_COLUMN, 'YES' as USER_GENERATED,
    is_identity as IDENTITY_COLUMN
    from information_schema.columns where table_schema not in {_SCHEMAS}""",
    """create view ALL_TAB_IDENTITY_COLS as
    select table_schema as OWNER, table_name as TABLE_NAME, column_name as COLUMN_NAME,
    identity_generation as GENERATION_TYPE
    from information_schema.columns where is_identity = 'YES'""",
    """create view ALL_CONSTRAINTS as
    select constraint_schema as OWNER, constraint_name as CONSTRAINT_NAME,
    case constraint_type when 'PRIMARY KEY' then 'P' when 'UNIQUE' then 'U'
    when 'CHECK' then 'C' else 'R' end as CONSTRAINT_TYPE, table_name as TABLE_NAME,
    'ENABLED' as STATUS, index_name as INDEX_NAME,
    (select max(k.check_clause) from information_schema.check_constraints k
    where k.constraint_schema = c.constraint_schema and k.constraint_name = c.constraint_name)
    as SEARCH_CONDITION from information_schema.table_constraints c""",
    """create view ALL_CONS_COLUMNS as
    select constraint_schema as OWNER, constraint_name as CONSTRAINT_NAME,
    table_name as TABLE_NAME, column_name as COLUMN_NAME
    from information_schema.constraint_column_usage""",
    """create view ALL_INDEXES as
    select i.table_schema as TABLE_OWNER, i.table_name as TABLE_NAME, i.index_name as INDEX_NAME,
    i.index_schema as OWNER, 'NORMAL' as INDEX_TYPE, 'VALID' as STATUS,
    case when exists (select 1 from information_schema.index_columns c
    where c.index_schema = i.index_schema and c.index_name = i.index_name and c.is_unique)
    then 'UNIQUE' else 'NONUNIQUE' end as UNIQUENESS
    from information_schema.indexes i""",
    """create view ALL_IND_COLUMNS as
    select index_schema as INDEX_OWNER, index_name as INDEX_NAME, column_name as COLUMN_NAME,
    ordinal_position as COLUMN_POSITION from information_schema.index_columns""",
    "create view USER_TABLES as select * from ALL_TABLES where OWNER = SCHEMA()",
    "create view USER_TAB_COLUMNS as select * from ALL_TAB_COLS where OWNER = SCHEMA()",
    "create view NLS_DATABASE_PARAMETERS as"
    " select 'NLS_CHARACTERSET' as PARAMETER, 'AL32UTF8' as \"VALUE\" from DUAL"
    " union all select 'NLS_NCHAR_CHARACTERSET', 'AL16UTF16' from DUAL",
)
"""What makes the dictionary, in schema PUBLIC of an empty H2 database."""
