//! Which configuration Spark takes only when an application starts.
//!
//! Spark refuses to set such a key in a session that runs, and its Thrift Server then refuses the whole session. The
//! lists were read from Spark 4.1.4 (`ConfigEntry.knownConfigs`, `SQLConf.isStaticConfigKey`); a key that a later
//! Spark adds is not known here, and its user hears Spark's own words.

/// Whether Spark would refuse to set `key` in a session.
///
/// Whole families are named where Spark itself names keys: an unknown key of theirs, which Spark would take, would not
/// do anything either.
pub fn only_at_start(key: &str) -> bool {
    let Some(rest) = key.strip_prefix("spark.") else { return false };
    let family = rest.split_once('.').map_or(rest, |(family, _)| family);
    match family {
        "sql" => STATIC_SQL.binary_search(&key).is_ok(),
        // Its keys are those of the server; the few of a session are for Connect's clients.
        "connect" => !SESSION_CONNECT.iter().any(|prefix| key.starts_with(prefix)),
        // Jobs run in the pool that their session names.
        "scheduler" => key != "spark.scheduler.pool",
        _ => FAMILIES.binary_search(&family).is_ok(),
    }
}

const SESSION_CONNECT: [&str; 7] = [
    "spark.connect.ml.",
    "spark.connect.progress.",
    "spark.connect.session.connectML.",
    "spark.connect.session.planCache.alwaysCache",
    "spark.connect.session.planCache.enabled",
    "spark.connect.session.planCompression.",
    "spark.connect.session.resultChunking.",
];

/// Sorted.
const FAMILIES: [&str; 70] = [
    "acls",
    "admin",
    "api",
    "app",
    "appStateStore",
    "archives",
    "authenticate",
    "barrier",
    "block",
    "blockManager",
    "broadcast",
    "buffer",
    "checkpoint",
    "cleaner",
    "cores",
    "dead",
    "decommission",
    "default",
    "deploy",
    "diskStore",
    "driver",
    "dynamicAllocation",
    "eventLog",
    "excludeOnFailure",
    "executor",
    "extraListeners",
    "file",
    "files",
    "hadoopRDD",
    "history",
    "io",
    "jars",
    "kerberos",
    "kryo",
    "kryoserializer",
    "kubernetes",
    "locality",
    "log",
    "master",
    "memory",
    "metrics",
    "modify",
    "network",
    "plugins",
    "pyspark",
    "python",
    "r",
    "rdd",
    "redaction",
    "reducer",
    "resources",
    "rpc",
    "security",
    "serializer",
    "shuffle",
    "shutdown",
    "sparkr",
    "speculation",
    "stage",
    "standalone",
    "storage",
    "streaming",
    "submit",
    "task",
    "taskMetrics",
    "ui",
    "unsafe",
    "user",
    "worker",
    "yarn",
];

/// Sorted.
const STATIC_SQL: [&str; 37] = [
    "spark.sql.broadcastExchange.maxThreadThreshold",
    "spark.sql.cache.serializer",
    "spark.sql.catalog.spark_catalog.defaultDatabase",
    "spark.sql.catalogImplementation",
    "spark.sql.codegen.cache.maxEntries",
    "spark.sql.codegen.comments",
    "spark.sql.connect.ui.retainedSessions",
    "spark.sql.connect.ui.retainedStatements",
    "spark.sql.debug",
    "spark.sql.defaultUrlStreamHandlerFactory.enabled",
    "spark.sql.event.truncate.length",
    "spark.sql.extensions",
    "spark.sql.extensions.test.loadFromCp",
    "spark.sql.filesourceTableRelationCacheSize",
    "spark.sql.globalTempDatabase",
    "spark.sql.hive.metastore.barrierPrefixes",
    "spark.sql.hive.metastore.jars",
    "spark.sql.hive.metastore.jars.path",
    "spark.sql.hive.metastore.sharedPrefixes",
    "spark.sql.hive.metastore.version",
    "spark.sql.hive.thriftServer.singleSession",
    "spark.sql.hive.version",
    "spark.sql.legacy.sessionInitWithConfigDefaults",
    "spark.sql.metadataCacheTTLSeconds",
    "spark.sql.queryExecutionListeners",
    "spark.sql.resultQueryStage.maxThreadThreshold",
    "spark.sql.shuffleExchange.maxThreadThreshold",
    "spark.sql.sources.disabledJdbcConnProviderList",
    "spark.sql.sources.schemaStringLengthThreshold",
    "spark.sql.streaming.streamingQueryListeners",
    "spark.sql.streaming.ui.enabled",
    "spark.sql.streaming.ui.enabledCustomMetricList",
    "spark.sql.streaming.ui.retainedProgressUpdates",
    "spark.sql.streaming.ui.retainedQueries",
    "spark.sql.subquery.maxThreadThreshold",
    "spark.sql.ui.retainedExecutions",
    "spark.sql.warehouse.dir",
];

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn the_lists_are_sorted_as_the_searches_need_it() {
        assert!(FAMILIES.is_sorted() && STATIC_SQL.is_sorted());
    }

    /// What Spark 4.1.4 answered `SET key` with in a session.
    #[rstest]
    #[case::executors("spark.executor.memory", true)]
    #[case::allocation("spark.dynamicAllocation.maxExecutors", true)]
    #[case::master("spark.master", true)]
    #[case::static_sql("spark.sql.warehouse.dir", true)]
    #[case::server("spark.connect.grpc.binding.port", true)]
    #[case::scheduling("spark.scheduler.mode", true)]
    #[case::pool_of_the_scheduler("spark.scheduler.pool", false)]
    #[case::sql("spark.sql.shuffle.partitions", false)]
    #[case::catalog("spark.sql.catalog.lake.uri", false)]
    #[case::hadoop("spark.hadoop.fs.s3a.endpoint", false)]
    #[case::extension("spark.rapids.sql.enabled", false)]
    #[case::plan_cache("spark.connect.session.planCache.enabled", false)]
    #[case::plan_cache_of_the_server("spark.connect.session.planCache.maxSize", true)]
    #[case::hive("hive.exec.parallel", false)]
    #[case::own("team", false)]
    fn what_spark_refuses_in_a_session_is_known(#[case] key: &str, #[case] expected: bool) {
        assert_eq!(only_at_start(key), expected);
    }
}
