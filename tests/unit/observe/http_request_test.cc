#include "observe/http_request.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace squall::observe {
namespace {

TEST(ParseUrl, TakesUrlsApart) {
  const Url url = parse_url("http://example.org:8080/a/b?c=d#e").value();
  EXPECT_FALSE(url.tls);
  EXPECT_EQ(url.host, "example.org");
  EXPECT_EQ(url.port, 8080);
  EXPECT_EQ(url.target, "/a/b?c=d");
  EXPECT_EQ(url.authority, "example.org:8080");
  EXPECT_EQ(parse_url("https://h").value().port, 443);
  EXPECT_EQ(parse_url("https://h").value().target, "/");
  EXPECT_EQ(parse_url("http://h?x").value().target, "/?x");
  const Url six = parse_url("http://[::1]:81/").value();
  EXPECT_EQ(six.host, "::1");
  EXPECT_EQ(six.port, 81);
  EXPECT_EQ(parse_url("http://[::1]/").value().host, "::1");
}

TEST(ParseUrl, RefusesWhatWouldBreakARequestOrLeakASecret) {
  for (const char* text :
       {"ftp://h/", "h/", "http://", "http://:80/", "http://h:0/", "http://h:x/", "http://h:99999/",
        "http://h/a b", "http://h/a\r\nX: y", "http://user:secret@h/"}) {
    const auto url = parse_url(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_FALSE(url.error().hint.empty());
    EXPECT_EQ(url.error().message.find("secret"), std::string::npos);
  }
}

RequestOptions post() {
  return {.method = "POST",
          .url = parse_url("http://h/x?ref={sequence}").value(),
          .headers = {{"X-Ref", "{sequence}"}},
          .body = R"({"ref":"{sequence}"})",
          .content_type = "application/json",
          .sequence_prefix = "run-writes"};
}

TEST(HttpRequestTemplate, OnlyTheNumberChanges) {
  auto request = HttpRequestTemplate::make(post()).value();
  const std::string first(request.render(42));
  EXPECT_EQ(first,
            "POST /x?ref=run-writes-0000000042 HTTP/1.1\r\nHost: h\r\nUser-Agent: squall\r\n"
            "Accept: */*\r\nX-Ref: run-writes-0000000042\r\nContent-Type: application/json\r\n"
            "Content-Length: 31\r\n\r\n{\"ref\":\"run-writes-0000000042\"}");
  const std::string second(request.render(9876543210));
  EXPECT_EQ(second.size(), first.size());
  EXPECT_NE(second.find("run-writes-9876543210"), std::string::npos);
  EXPECT_EQ(request.render(42), first);
  EXPECT_EQ(sequence_text("run-writes", 42), "run-writes-0000000042");
}

TEST(HttpRequestTemplate, BodilessWritesSaySo) {
  RequestOptions options{.method = "POST", .url = parse_url("http://h/").value()};
  EXPECT_NE(HttpRequestTemplate::make(options).value().render(0).find("Content-Length: 0\r\n"),
            std::string_view::npos);
  options.method = "GET";
  EXPECT_EQ(HttpRequestTemplate::make(options).value().render(0).find("Content-Length"),
            std::string_view::npos);
}

TEST(HttpRequestTemplate, RefusesHeadersThatChangeTheFraming) {
  for (const auto& header : HttpHeaders{{"A\r\nB", "c"},
                                        {"A", "b\r\nC: d"},
                                        {"", "x"},
                                        {"Content-Length", "3"},
                                        {"transfer-encoding", "chunked"}}) {
    RequestOptions options = post();
    options.headers = {header};
    EXPECT_FALSE(HttpRequestTemplate::make(options).ok()) << header.first;
  }
  RequestOptions options = post();
  options.method = "GET / HTTP/1.1\r\n";
  EXPECT_FALSE(HttpRequestTemplate::make(options).ok());
}

TEST(Sequence, GoesToThePlaceThatThePathNames) {
  base::Json body = {{"a", {{"ref", "x"}}}, {"note", "for {sequence}!"}};
  ASSERT_TRUE(put_sequence_placeholder(body, "$.a.ref").ok());
  EXPECT_EQ(body["a"]["ref"], "{sequence}");
  ASSERT_TRUE(put_sequence_placeholder(body, "$.note").ok());
  EXPECT_EQ(body["note"], "for {sequence}!");  // the text around it stays
  ASSERT_TRUE(put_sequence_placeholder(body, "$.client_ref").ok());
  EXPECT_EQ(body["client_ref"], "{sequence}");
  EXPECT_FALSE(put_sequence_placeholder(body, "$.nowhere.ref").ok());
  base::Json text = "plain";
  EXPECT_FALSE(put_sequence_placeholder(text, "$.client_ref").ok());
}

}  // namespace
}  // namespace squall::observe
