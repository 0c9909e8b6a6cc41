vcl 4.1;
# POST is hashed with its body (bodyaccess is of varnish-modules) and stays a POST; what is fetched is streamed to all who
# wait for it. Below /limited/ the model gets at most @LIMIT@ connections.
import std;
import bodyaccess;
backend default { .host = "127.0.0.1"; .port = "@PORT@"; .first_byte_timeout = 120s; .between_bytes_timeout = 60s; .max_connections = 4000; }
backend limited { .host = "127.0.0.1"; .port = "@PORT@"; .first_byte_timeout = 120s; .between_bytes_timeout = 60s; .max_connections = @LIMIT@; }
sub vcl_recv {
  if (req.url ~ "^/limited/") { set req.backend_hint = limited; set req.url = regsub(req.url, "^/limited", ""); }
  else { set req.backend_hint = default; }
  if (req.method == "POST") { std.cache_req_body(64KB); return (hash); }
  return (pass);
}
sub vcl_hash { bodyaccess.hash_req_body(); }
sub vcl_backend_fetch { set bereq.method = "POST"; }
sub vcl_backend_response {
  if (beresp.status == 200) { unset beresp.http.cache-control; set beresp.ttl = 600s; set beresp.grace = 0s; set beresp.do_stream = true; }
  else { set beresp.uncacheable = true; set beresp.ttl = 1s; }
  return (deliver);
}
