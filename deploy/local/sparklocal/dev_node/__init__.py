"""The dev node plays the Spark Operator and the kubelet for driver Pods. A development tool, never for production.

It watches SparkApplications, starts each one's server with the real `spark-submit` of the installed Spark as a process on
a loopback address of its own, and writes the statuses of the SparkApplication and of its driver Pod that the real parts
would write. What it does not do: executors (the driver runs `local[n]`), containers and images, volumes, resource limits,
restart policies (every application is `Never`), ScheduledSparkApplications, and reruns after a change of the spec.
Two differences from the real Spark Operator are worth knowing: it runs Spark's stock server classes, which spark-submit's
cluster mode refuses, and its drivers start some seconds sooner, since there is no Pod to schedule and no image to unpack.

    environment application, Secrets -> variables         pure
    command     application -> command line               pure
    objects     application, driver -> Pod, statuses      pure
    addresses   which loopback address comes next
    driver      one JVM: start, adopt, end
    usage       what their processes use
    metrics     the API that tells it
    watching    what the API says, kept up to date
    node        compares the two and acts
"""
