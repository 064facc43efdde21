// Plain java.net.http.HttpClient: the proxy and the CA come from JAVA_TOOL_OPTIONS alone. The lines are those of jobs.mjs.

import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Base64;

public class Client {
    static final HttpClient CLIENT = HttpClient.newHttpClient();

    static void exchange(int number, String kind, String url, Path file) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url)).timeout(Duration.ofSeconds(30));
        if (kind.equals("post")) {
            request.header("content-type", "application/octet-stream").POST(HttpRequest.BodyPublishers.ofFile(file));
        }
        HttpResponse<InputStream> response = CLIENT.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        byte[] chunk = new byte[65536];
        try (InputStream body = response.body()) {
            for (int n; (n = body.read(chunk)) >= 0; all.write(chunk, 0, n)) {
                if (n > 0 && all.size() == 0 && kind.equals("stream")) {
                    System.out.println("first " + number);
                }
            }
        }
        System.out.println("done " + number + " " + response.statusCode() + " " + Base64.getEncoder().encodeToString(all.toByteArray()));
    }

    public static void main(String[] args) {
        for (int i = 1; i + 1 < args.length; i += 2) {
            try {
                exchange(i / 2, args[i], args[i + 1], Path.of(args[0]));
            } catch (Exception error) {
                System.out.println("fail " + i / 2 + " " + String.valueOf(error).replace('\n', ' '));
            }
        }
    }
}
