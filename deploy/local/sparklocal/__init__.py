"""The local environment: real etcd, kube-apiserver, Keycloak, Envoy, Spark and the operator on one machine, on loopback.

Reading order:

    cli              flags -> Settings -> one of up, down, status, env
    settings, ports  where everything lies and listens; remembered in the state folder
    prerequisites    what the machine has to bring
    parts            what is obtained or built, once per machine, in the cache
    processes        start and stop by pid file
    bring_up         the order in which everything starts
    control_plane, keycloak, envoy, session_operator, spark    one part each
    dev_node/        plays the Spark Operator and the kubelet for driver Pods

Only Python's standard library is imported, since this runs before any virtual environment exists.
"""
