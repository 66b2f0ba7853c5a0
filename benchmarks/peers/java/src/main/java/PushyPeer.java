import com.eatthepath.pushy.apns.ApnsClient;
import com.eatthepath.pushy.apns.ApnsClientBuilder;
import com.eatthepath.pushy.apns.DeliveryPriority;
import com.eatthepath.pushy.apns.PushType;
import com.eatthepath.pushy.apns.auth.ApnsSigningKey;
import com.eatthepath.pushy.apns.util.SimpleApnsPayloadBuilder;
import com.eatthepath.pushy.apns.util.SimpleApnsPushNotification;
import com.sun.management.OperatingSystemMXBean;
import java.io.File;
import java.lang.management.ManagementFactory;
import java.net.URI;
import java.time.Instant;
import java.util.Map;
import java.util.HashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** pushy as its README shows it: one client, one event loop (one core), futures, many in flight. */
public final class PushyPeer {
    private static final OperatingSystemMXBean SYSTEM =
        (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final Map<String, String> task;
    private final ApnsClient client;
    private final AtomicLong failures = new AtomicLong();

    private PushyPeer(Map<String, String> task) throws Exception {
        URI place = URI.create(task.get("url"));
        this.task = task;
        this.client = new ApnsClientBuilder()
            .setApnsServer(place.getHost(), place.getPort())
            .setTrustedServerCertificateChain(new File(task.get("ca")))
            .setSigningKey(ApnsSigningKey.loadFromPkcs8File(
                new File(task.get("key_file")), task.get("team_id"), task.get("key_id")))
            .build();
    }

    private void send(int count, int atOnce) throws InterruptedException {
        Semaphore room = new Semaphore(atOnce);
        for (int n = 0; n < count; n++) {
            room.acquire();
            String payload = new SimpleApnsPayloadBuilder()
                .setAlertTitle(task.get("title")).setAlertBody(task.get("body")).build();
            client.sendNotification(new SimpleApnsPushNotification(
                String.format("%064x", n), task.get("topic"), payload, Instant.now().plusSeconds(3600),
                DeliveryPriority.IMMEDIATE, PushType.ALERT, "0123456789abcdef"))
                .whenComplete((answer, problem) -> {
                    room.release();
                    if (problem != null || !answer.isAccepted()) {
                        failures.incrementAndGet();
                    }
                });
        }
        room.acquire(atOnce);
    }

    private void measure() throws Exception {
        int requests = Integer.parseInt(task.get("requests"));
        int atOnce = Integer.parseInt(task.get("at_once"));
        send(Integer.parseInt(task.get("warm")), atOnce);
        failures.set(0);
        long began = System.nanoTime();
        long used = SYSTEM.getProcessCpuTime();
        send(requests, atOnce);
        used = SYSTEM.getProcessCpuTime() - used;
        double seconds = (System.nanoTime() - began) / 1e9;
        System.out.printf(java.util.Locale.ROOT, "{\"cpu_us\": %f, \"rate\": %f, \"failures\": %d}%n",
            used / 1e3 / requests, requests / seconds, failures.get());
        client.close().get();
    }

    /** The task is a flat JSON object of strings without escapes and of numbers: no parser needs to come along. */
    private static Map<String, String> read() throws Exception {
        Map<String, String> task = new HashMap<>();
        Matcher entry = Pattern.compile("\"(\\w+)\": (?:\"([^\"]*)\"|([0-9.]+))")
            .matcher(new String(System.in.readAllBytes(), "UTF-8"));
        while (entry.find()) {
            task.put(entry.group(1), entry.group(2) == null ? entry.group(3) : entry.group(2));
        }
        return task;
    }

    public static void main(String[] arguments) throws Exception {
        new PushyPeer(read()).measure();
    }
}
