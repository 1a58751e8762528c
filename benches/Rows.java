import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Locale;

/** Reads rows with hive-jdbc over several ways in turn, and prints "way rows milliseconds" a line. Started by rows.py. */
public final class Rows {
    /** ROUNDS ROWS,ROWS,... USER PASSWORD, then WAY URL for each way. The first round warms up and is not printed. */
    public static void main(String[] arguments) throws Exception {
        Class.forName("org.apache.hive.jdbc.HiveDriver");
        int rounds = Integer.parseInt(arguments[0]);
        int ways = (arguments.length - 4) / 2;
        Connection[] connections = new Connection[ways];
        for (int way = 0; way < ways; way++) {
            connections[way] = DriverManager.getConnection(arguments[5 + 2 * way], arguments[2], arguments[3]);
        }
        for (String rows : arguments[1].split(",")) {
            for (int round = 0; round <= rounds; round++) {
                for (int turn = 0; turn < ways; turn++) {
                    int way = (turn + round) % ways;
                    double took = read(connections[way], Integer.parseInt(rows));
                    if (round > 0) {
                        System.out.printf(Locale.ROOT, "%s %s %.1f%n", arguments[4 + 2 * way], rows, took);
                    }
                }
            }
        }
        for (Connection connection : connections) {
            connection.close();
        }
    }

    private static double read(Connection connection, int rows) throws Exception {
        try (Statement statement = connection.createStatement()) {
            long begin = System.nanoTime();
            int count = 0;
            try (ResultSet result = statement.executeQuery("SELECT id FROM range(" + rows + ")")) {
                while (result.next()) {
                    count++;
                }
            }
            if (count != rows) {
                throw new IllegalStateException(count + " of " + rows + " rows");
            }
            return (System.nanoTime() - begin) / 1e6;
        }
    }
}
