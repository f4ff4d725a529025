import java.io.FileInputStream;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManager;
import javax.net.ssl.X509TrustManager;

/**
 * A pooled client of Java's HttpClient: Pooled h1|h2 PORT CHANGE PKCS12, whose password is "pass". As pooled.go, without
 * the numbers of the connections, which HttpClient does not tell. Name resolution comes from jdk.net.hosts.file.
 */
public class Pooled {
    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (FileInputStream in = new FileInputStream(args[3])) {
            store.load(in, "pass".toCharArray());
        }
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(store, "pass".toCharArray());
        TrustManager trustAll = new X509TrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String type) { }

            public void checkServerTrusted(X509Certificate[] chain, String type) { }

            public X509Certificate[] getAcceptedIssuers() {
                return new X509Certificate[0];
            }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), new TrustManager[] {trustAll}, null);
        HttpClient.Version version = args[0].equals("h2") ? HttpClient.Version.HTTP_2 : HttpClient.Version.HTTP_1_1;
        HttpClient client = HttpClient.newBuilder().sslContext(context).version(version).build();
        StringBuilder out = new StringBuilder();
        for (int i = 0; i < 5; i++) {
            if (i == 2) {
                HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(args[2])).build(), BodyHandlers.ofString());
            }
            var request = HttpRequest.newBuilder(URI.create("https://a.test:" + args[1] + "/t")).build();
            try {
                var response = client.send(request, BodyHandlers.ofString());
                if (response.version() != version) {
                    throw new IllegalStateException(response.version().toString());
                }
                out.append(response.statusCode()).append(' ');
            } catch (IOException e) {
                // Java 17 fails the requests that are open when GOAWAY arrives.
                if (!e.toString().contains("GOAWAY received")) {
                    throw e;
                }
                out.append("GOAWAY ");
            }
        }
        System.out.println(out);
    }
}
