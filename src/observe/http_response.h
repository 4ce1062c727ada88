#pragma once
// An incremental parser of HTTP/1.1 responses (RFC 9112), made for many small answers: it keeps its
// buffers between answers and copies the body only when somebody will look at it. Whatever arrives,
// it ends in one of four states and never holds more than its limits.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace squall::observe {

enum class ResponseState {
  kMore,  // needs more bytes
  kComplete,
  kMalformed,  // not HTTP/1.x
  kTooLarge,   // head or body above the limit
};

class HttpResponseParser {
 public:
  enum class Body { kCount, kKeep };                    // kCount: the bytes are counted and dropped
  static constexpr std::size_t kHeadLimit = 64 * 1024;  // bytes, interim (1xx) answers included

  HttpResponseParser(Body body, std::uint64_t body_limit) : body_mode_(body), limit_(body_limit) {}

  enum class Request { kHead, kOther };
  // Before each response. After kHead no body is expected, whatever the headers say.
  void start(Request request);
  // Takes bytes as they come and returns how many belong to this response; fewer than given only
  // when the state is no longer kMore.
  std::size_t feed(std::string_view bytes);
  // The peer has closed: completes a body that is delimited by the end of the connection. True when
  // the response is complete.
  bool end_of_stream();

  ResponseState state() const { return state_; }
  bool started() const { return started_; }  // at least one byte came
  // The rest is valid when complete.
  int status() const { return status_; }
  bool reusable() const { return reusable_; }  // the connection may carry another request
  std::uint64_t body_size() const { return body_size_; }
  std::string_view body() const { return body_; }  // empty with Body::kCount
  // Names compare without regard to case. Repeated fields are joined by ", " (RFC 9110
  // section 5.3).
  std::optional<std::string> header(std::string_view name) const;

 private:
  enum class Part {
    kStatusLine,
    kHeaders,
    kFixedBody,
    kBodyToEnd,
    kChunkSize,
    kChunkData,
    kChunkEnd,
    kTrailers
  };
  // Moves `bytes` past the next line feed. False: no whole line yet (the part is kept).
  bool take_line(std::string_view& bytes, std::string_view& line);
  void on_line(std::string_view line);
  void on_status_line(std::string_view line);
  void on_header(std::string_view line);
  void on_head_end();
  void on_chunk_size(std::string_view line);
  void on_content_length(std::string_view value);
  void take_body(std::string_view& bytes);
  void append_body(std::string_view bytes);
  void fail() { state_ = ResponseState::kMalformed; }

  Body body_mode_;
  std::uint64_t limit_;
  Request request_ = Request::kOther;
  ResponseState state_ = ResponseState::kMore;
  Part part_ = Part::kStatusLine;
  bool started_ = false;
  bool reusable_ = true;
  bool http_1_0_ = false;
  bool keep_alive_ = false;
  bool close_ = false;
  bool chunked_ = false;
  bool transfer_encoding_ = false;
  int status_ = 0;
  std::optional<std::uint64_t> content_length_;
  std::uint64_t left_ = 0;  // of the fixed body or chunk
  std::uint64_t body_size_ = 0;
  std::size_t head_size_ = 0;
  std::string line_;  // the part of a line that came in an earlier piece
  bool line_whole_ = false;
  std::string head_;  // header lines, each ended by '\n'
  std::string body_;
};

// ASCII only.
bool equals_ignoring_case(std::string_view a, std::string_view b);

}  // namespace squall::observe
